// Numbers and errors as a person reads them.

import type { ProfileSpan, ReplyStats } from "meetara";

/** What to show for an error: what happened, and what to do. */
export interface Words {
  title: string;
  text: string;
  /** What the engine said, for those who want to know. */
  detail?: string;
}

/** A size; what is less than 0.1 MB in kilobytes. */
export function megabytes(bytes: number): string {
  const mb = bytes / 1e6;
  if (mb < 0.1) return `${Math.round(bytes / 1e3)} kB`;
  return `${mb.toFixed(mb < 100 ? 1 : 0)} MB`;
}

/** A number of weights, such as "12 M weights". */
export function weights(n: number): string {
  const millions = n / 1e6;
  return `${millions.toFixed(millions < 10 ? 1 : 0)} M weights`;
}

export function milliseconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function perSecond(rate: number): string {
  return `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

/** A clause as a sentence of its own. */
export function sentence(clause: string): string {
  return `${clause.charAt(0).toUpperCase()}${clause.slice(1)}.`;
}

function reasonOf(error: unknown): string {
  const { reason, name } = error as { reason?: string; name?: string };
  return reason ?? name ?? "";
}

/** An error while a model was opened. */
export function openingError(error: unknown, what: string): Words {
  const detail = error instanceof Error ? error.message : String(error);
  switch (reasonOf(error)) {
    case "invalid_model":
      return {
        title: `${what} cannot be opened`,
        text: "The file is damaged, cut short, or no model at all. Fetch it again, or choose another one.",
        detail,
      };
    case "unsupported_model":
      return { title: `${what} is of a kind that does not run here`, text: "Choose a llama-family chat model in GGUF form.", detail };
    case "out_of_memory":
      return { title: `${what} is too large for this browser`, text: "Choose a smaller model, or close other tabs and try again.", detail };
    case "incomplete":
      return { title: `${what} did not arrive whole`, text: `${detail} Nothing was kept of it.` };
    case "network":
      return {
        title: `${what} could not be fetched`,
        text: navigator.onLine === false
          ? "There is no network, and this model is not kept on this device yet. Connect once, or open a file."
          : detail,
      };
    case "checksum":
      return { title: `${what} is not the file that was expected`, text: detail };
    case "not_found":
      return { title: `${what} is not here any more`, text: detail };
    default:
      return { title: `${what} could not be opened`, text: detail };
  }
}

/** An error while an adapter was added or put on. */
export function adapterError(error: unknown, name: string): Words {
  const detail = error instanceof Error ? error.message : String(error);
  switch (reasonOf(error)) {
    case "unsupported_model":
      return { title: `${name} was made for another model`, text: "Open the model that it belongs to, then add it again.", detail };
    case "invalid_model":
      return { title: `${name} cannot be used`, text: `The file is damaged, cut short, or no adapter: ${detail}.`, detail };
    case "out_of_memory":
      return { title: `${name} is too large for this browser`, text: "Turn another adapter off, or close other tabs, and try again.", detail };
    default:
      return { title: `${name} could not be used`, text: detail };
  }
}

/** An error while a reply was made. */
export function replyError(error: unknown): Words {
  const detail = error instanceof Error ? error.message : String(error);
  switch (reasonOf(error)) {
    case "template":
      return { title: "This model cannot hold a chat", text: "Choose a model made for chat.", detail };
    case "internal":
    case "stopped":
      return { title: "The engine stopped", text: "Your messages are still here. Open the model again to go on." };
    default:
      return { title: "No reply could be made", text: detail };
  }
}

/** Two tables in text, the longest spans first. The words are the engine's own. */
export function profileTable({ prompt, reply }: NonNullable<ReplyStats["profile"]>): string {
  const table = (title: string, spans: ProfileSpan[]) => {
    const total = spans.reduce((sum, span) => sum + span.ms, 0);
    const rows = [...spans].sort((a, b) => b.ms - a.ms).map((span) => {
      const share = total > 0 ? (100 * span.ms) / total : 0;
      const name = `${span.phase.padEnd(18)} ${span.weights.padEnd(5)}`;
      return `${name} ${span.ms.toFixed(2).padStart(9)} ms ${share.toFixed(1).padStart(5)} % ${String(span.calls).padStart(7)} calls`;
    });
    return [`${title}: ${total.toFixed(2)} ms`, ...rows].join("\n");
  };
  return `${table("The prompt and the first token", prompt)}\n\n${table("Each further token, all together", reply)}`;
}
