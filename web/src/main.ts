// The page: opens a model, sends what the user writes, shows the reply as it comes.

import type { LanguageModel } from "meetara";
import { namesOn, setUpAdapters } from "./adapters.js";
import { addDivider, addReply, addUserMessage, clearConversation, isEmpty, scrollToEnd } from "./conversation.js";
import { announce, byId, makeButton } from "./dom.js";
import { askOnce, feelingsAreOn, hideAsk, setUpFeelings, showFeeling } from "./feelings.js";
import { showHelp, showUnchecked } from "./help.js";
import { setUpModelsDialog } from "./models-dialog.js";
import { clearNotice, showNotice } from "./notice.js";
import { firstChoice, hideProgress, keyOf, nameOf, open, wantedDevice, type Choice } from "./opener.js";
import { allowOwnScripts, keepPageOffline } from "./platform.js";
import { onReader, readerInTime, readerMemoryBytes } from "./reader.js";
import { currentRegion } from "./region.js";
import { count, megabytes, milliseconds, openingError, perSecond, profileTable, replyError, sentence } from "./words.js";

const SUGGESTIONS = [
  "I slept badly. What could help tonight?",
  "Suggest a simple, healthy breakfast.",
  "How do I start a hard conversation?",
];

/** With `?profile` in the address each reply shows what its time went into. */
const PROFILE = new URLSearchParams(location.search).has("profile");

const composer = byId("composer", HTMLFormElement);
const input = byId("input", HTMLTextAreaElement);
const sendButton = byId("send", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const newChatButton = byId("new-chat", HTMLButtonElement);
const modelName = byId("model-name", HTMLSpanElement);

let session: LanguageModel | null = null;
let sessionKey: string | null = null;
/** What the page calls the open model. */
let openName = "";
/** Set while a model is being opened. */
let opening: AbortController | null = null;
/** Counts chats, so that a reply that outlives its chat does not touch the next. */
let chat = 0;
/** Set while a reply is being made. */
let reply: AbortController | null = null;
/** What was sent while no model was open, or another was on its way: the next one answers it. */
let held: { text: string; remove(): void } | null = null;

allowOwnScripts();
keepPageOffline();
setUpModelsDialog(
  (choice) => void openModel(choice),
  () => session && sessionKey ? { key: sessionKey, parameters: session.info.parameters } : null,
  setUpAdapters(() => session && sessionKey ? { model: session, key: sessionKey } : null, adaptersChanged),
);
setUpFeelings(() => session, (region) => {
  if (session) session.region = region;
});
onReader((state) => {
  showMemory();
  if (state !== "failed") showUnchecked(null);
  else showUnchecked("The model that checks messages for emergencies could not be fetched.");
});
setUpComposer();
void firstChoice().then(openModel);

async function openModel(choice: Choice): Promise<void> {
  // Whoever chooses again while a model is on its way wants the other one.
  opening?.abort();
  const mine = new AbortController();
  opening = mine;
  reply?.abort();
  clearNotice();
  update();
  try {
    // The old model stays until the new one is there, so a bad file loses nothing.
    const emotion = { reader: readerInTime, on: feelingsAreOn(), region: currentRegion() };
    use(await open(choice, emotion, mine.signal), choice);
  } catch (error) {
    if (mine.signal.aborted) return;
    // It was meant for the model that did not come, not for the one before.
    if (session) takeHeldBack();
    const again = { label: "Try again", run: () => void openModel(choice) };
    const menu = { label: "Choose a model", run: () => byId("model-button", HTMLButtonElement).click() };
    showNotice(openingError(error, nameOf(choice)), choice.kind === "file" ? [menu] : [again, menu]);
  } finally {
    if (opening === mine) {
      opening = null;
      hideProgress();
      update();
      input.focus({ preventScroll: true });
      // Without any model it waits for the next attempt.
      if (held && session) {
        const { text } = held;
        release();
        void answer(text);
      }
    }
  }
}

/** From now on the conversation is with this model. */
function use(next: LanguageModel, choice: Choice): void {
  const name = nameOf(choice);
  // What waits is the first that this model sees.
  const waiting = held?.text;
  release();
  chat += 1;
  session?.destroy();
  session = next;
  sessionKey = keyOf(choice);
  openName = name;
  modelName.textContent = name;
  addDivider(`Now talking to ${name}. It has not seen what is above.`);
  if (waiting !== undefined) hold(waiting);
  announce(`${name} is ready.`);
  showFeeling();
  next.onemotion = () => session === next && showFeeling();
  next.ondevicechange = () => {
    if (session !== next) return;
    showDevice(next);
    if (next.device.message) addDivider(sentence(next.device.message));
  };
  showDevice(next);
  showStats();
  if (!next.source.kept) {
    showNotice({
      title: `${name} is open, but is not kept`,
      text: "This browser has no room for it, or stores nothing in this window. You can chat as usual; the model must be opened again next time.",
    });
  }
}

/** Shows what was sent, for the next model to answer. */
function hold(text: string): void {
  held = { text, remove: addUserMessage(text) };
  update();
}

/** Takes what waits from the page. */
function release(): void {
  held?.remove();
  held = null;
  update();
}

/** Gives what waits back to its writer. */
function takeHeldBack(): void {
  if (!held) return;
  if (!input.value) input.value = held.text;
  release();
  resize();
}

/** Others are on than before: the page says which, and the conversation goes on with them. */
function adaptersChanged(): void {
  if (!session) return;
  const names = namesOn(session);
  modelName.textContent = [openName, ...names].join(" + ");
  const words = names.length ? `From here on with ${names.join(" and ")}.` : "From here on without an adapter.";
  addDivider(words);
  announce(words);
}

function send(): void {
  const text = input.value.trim();
  if (!text || reply || held) return;
  input.value = "";
  resize();
  if (session && !opening) {
    clearNotice();
    void answer(text);
    return;
  }
  hold(text);
  announce("Your message waits for the model.");
}

async function answer(text: string): Promise<void> {
  if (!session) return;
  const model = session;
  const current = chat;
  reply = new AbortController();
  update();

  const removeMessage = addUserMessage(text);
  const view = addReply();
  const takeBack = () => {
    view.remove();
    removeMessage();
    if (!input.value) input.value = text;
    resize();
  };
  // Of a fixed text that stands in a reply's place there is no speed.
  let isFixed = false;
  // The gate speaks before the first word of the reply.
  model.onsafety = ({ detail }) => {
    isFixed = detail.flagged;
    if (detail.flagged) showHelp(view, detail, model);
    else if (!detail.checked) showUnchecked(`Your last message was not checked for emergencies. ${detail.error?.message ?? ""}`);
    else view.remark("This message is not in English, or has no words, so it was hardly checked for emergencies. If you are in danger, call your local emergency number.");
  };
  const began = performance.now();
  let first = 0;
  let last = 0;
  let pieces = 0;
  const speed = () => (pieces > 1 && !isFixed ? ((pieces - 1) * 1000) / (last - first) : null);
  try {
    const reader = model.promptStreaming(text, { signal: reply.signal, profile: PROFILE }).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      last = performance.now();
      first ||= last;
      pieces += 1;
      view.write(value);
      showStats({ firstMs: first - began, rate: speed() });
    }
    const stats = model.lastReply;
    const rate = stats?.tokensPerSecond ?? speed();
    const table = stats?.profile ? profileTable(stats.profile) : undefined;
    if (isFixed) {
      view.finish("A fixed text, not from the model");
    } else {
      if (model.domain?.disclaimer) view.remark(model.domain.disclaimer);
      view.finish(noteOf(first - began, rate, stats?.completionTokens ?? pieces), table);
    }
    showStats({ firstMs: first - began, rate });
    showFeeling();
    announce("The reply is complete.");
    // Not of somebody who may be in danger just now.
    if (current === chat && !isFixed) askOnce();
    if (stats?.finish === "length") contextFull(model);
  } catch (error) {
    if (reply.signal.aborted) {
      if (current !== chat) {
        view.finish("Stopped");
      } else if (!view.text) {
        takeBack();
      } else {
        view.finish(`Stopped · ${noteOf(first - began, speed(), pieces)}`);
        // An aborted pair leaves the session; what can be read should be remembered too.
        await model.append([{ role: "user", content: text }, { role: "assistant", content: view.text }]).catch(() => {
          if (current === chat) contextFull(model);
        });
        if (current === chat) showStats({ firstMs: first - began, rate: speed() });
      }
      announce("The reply was stopped.");
    } else {
      takeBack();
      if ((error as Error).name === "QuotaExceededError") contextFull(model);
      else showNotice(replyError(error), [{ label: "Open the model again", run: () => void firstChoice().then(openModel) }]);
    }
  } finally {
    reply = null;
    update();
    input.focus({ preventScroll: true });
  }
}

function contextFull(model: LanguageModel): void {
  showNotice({
    title: "This chat is full",
    text: `The model can keep ${count(model.contextWindow)} tokens in mind, and this chat has used them. Everything above stays here to read and copy. Start a new chat to go on.`,
  }, [{ label: "New chat", run: () => void newChat() }]);
}

async function newChat(): Promise<void> {
  chat += 1;
  reply?.abort();
  clearNotice();
  held = null;
  clearConversation();
  hideAsk();
  await session?.reset().catch(() => {});
  showStats();
  showFeeling();
  update();
  input.focus();
}

function noteOf(firstMs: number, rate: number | null, tokens: number): string {
  const parts = [`${count(tokens)} tokens`];
  if (rate !== null && Number.isFinite(rate)) parts.push(perSecond(rate));
  if (firstMs > 0) parts.push(`first word after ${milliseconds(firstMs)}`);
  return parts.join(" · ");
}

function showStats(last?: { firstMs: number; rate: number | null }): void {
  const set = (id: string, text: string) => {
    byId(id, HTMLElement).textContent = text;
  };
  set("stat-first", last ? milliseconds(last.firstMs) : "–");
  set("stat-speed", last?.rate && Number.isFinite(last.rate) ? perSecond(last.rate) : "–");
  showMemory();
  set("stat-context", session ? `${count(session.contextUsage)} of ${count(session.contextWindow)}` : "–");
}

/** Of the engine, and of the one that reads messages. */
function showMemory(): void {
  byId("stat-memory", HTMLElement).textContent = session ? megabytes(session.memoryBytes + readerMemoryBytes()) : "–";
}

/** Shows where the model runs, and why not on the GPU if that was asked for. */
function showDevice({ device }: LanguageModel): void {
  byId("stat-device", HTMLElement).textContent = device.type === "gpu" ? "GPU" : "CPU";
  const note = byId("device-note", HTMLParagraphElement);
  // That there is no GPU is news only to who asked for one.
  note.hidden = !device.message || (device.reason === "no_adapter" && wantedDevice() === null);
  note.textContent = device.message ? sentence(device.message) : "";
}

/** Shows what can be done now. */
function update(): void {
  const busy = reply !== null || held !== null;
  sendButton.hidden = busy;
  sendButton.disabled = !input.value.trim();
  stopButton.hidden = !busy;
  newChatButton.disabled = isEmpty();
  document.body.dataset.state = opening ? "opening" : reply ? "replying" : session ? "ready" : "empty";
}

function resize(): void {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
  update();
}

/** Stops the reply, or takes back what waits for a model. */
function stop(): void {
  reply?.abort();
  takeHeldBack();
}

function setUpComposer(): void {
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  input.addEventListener("input", resize);
  input.addEventListener("keydown", (event) => {
    // While an input method composes a word, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
  });
  stopButton.addEventListener("click", stop);
  newChatButton.addEventListener("click", () => void newChat());
  byId("suggestions", HTMLUListElement).append(...SUGGESTIONS.map((text) => {
    const item = document.createElement("li");
    item.append(makeButton(text, "suggestion", () => {
      input.value = text;
      resize();
      send();
    }));
    return item;
  }));
  new ResizeObserver(scrollToEnd).observe(composer);
  update();
}
