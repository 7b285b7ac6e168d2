// The adapters of the open model, in the sheet of models: added from a file, put on, taken off, deleted.

import { models, type LanguageModel, type StoredModel } from "meetara";
import { byId, make, makeButton } from "./dom.js";
import { adapterError, megabytes } from "./words.js";

const section = byId("adapters", HTMLElement);
const list = byId("adapter-list", HTMLUListElement);
const file = byId("adapter-file", HTMLInputElement);
const problem = byId("adapter-problem", HTMLParagraphElement);

/** The open model and the key under which it is kept. */
export interface Open {
  model: LanguageModel;
  key: string;
}

/** Keys of adapters begin with the model that they were added to, so that each model has its own. */
const prefixOf = (modelKey: string) => `adapter:${modelKey}:`;

/** The names of those that are on, for the line that names the model. */
export function namesOn({ adapters }: LanguageModel): string[] {
  return adapters.active.map(({ name }) => name);
}

/** Wires the section; `current` tells of the open model, `changed` is called when others are on. */
export function setUpAdapters(current: () => Open | null, changed: () => void): { fill(): Promise<void> } {
  /** Does something with the open model; what is wrong is said in the sheet. */
  async function change(name: string, action: (open: Open) => Promise<void>): Promise<void> {
    const open = current();
    if (!open) return;
    problem.hidden = true;
    const before = namesOn(open.model).join();
    try {
      await action(open);
    } catch (error) {
      const { title, text } = adapterError(error, name);
      problem.textContent = `${title}. ${text}`;
      problem.hidden = false;
    }
    if (current()?.model === open.model && namesOn(open.model).join() !== before) changed();
    await fill();
  }

  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (!chosen) return;
    const name = chosen.name.replace(/(\.adapter)?\.gguf$/i, "");
    void change(name, async ({ model, key }) => {
      if ((await model.adapters.list()).some((adapter) => adapter.name === name)) await model.adapters.unload(name);
      await model.adapters.load(chosen, { name, cache: prefixOf(key) + name });
      await model.adapters.use([...model.adapters.active, { name }]);
    });
  });

  /** Counts the fillings: one that waited for the disk must not undo a later one. */
  let latest = 0;

  async function fill(): Promise<void> {
    const turn = ++latest;
    const open = current();
    section.hidden = !open;
    if (!open) return;
    const { model, key } = open;
    // In this order: what is loaded from a file is kept by then.
    const loaded = await model.adapters.list().catch(() => []);
    const kept = await models.list({ kind: "adapter" }).catch((): StoredModel[] => []);
    if (turn !== latest) return;
    const own = kept.filter((record) => record.key.startsWith(prefixOf(key)));
    const nameOf = (record: StoredModel) => record.key.slice(prefixOf(key).length);
    const rows = loaded.map(({ name, bytes, scale }) => row(name, bytes, scale !== null, own.find((record) => nameOf(record) === name)));
    for (const record of own) {
      const name = nameOf(record);
      if (!loaded.some((adapter) => adapter.name === name)) rows.push(row(name, record.bytes, false, record));
    }
    list.replaceChildren(...rows);
  }

  function row(name: string, bytes: number, on: boolean, kept?: StoredModel): HTMLLIElement {
    const item = make("li");
    const label = make("label", "adapter-row");
    const box = make("input");
    box.type = "checkbox";
    box.checked = on;
    box.addEventListener("change", () => void change(name, ({ model }) => (box.checked ? putOn(model, name, kept) : takeOff(model, name))));
    const where = kept ? "on this device" : "not kept";
    const words = make("span", "words");
    words.append(make("span", "name", name), make("span", "detail", `${megabytes(bytes)}, ${where}${on ? ", on" : ""}`));
    label.append(box, words);
    const remove = makeButton("Delete", "link", () => void change(name, async ({ model }) => {
      if ((await model.adapters.list()).some((adapter) => adapter.name === name)) await model.adapters.unload(name);
      if (kept) await models.delete(kept.key);
    }));
    remove.setAttribute("aria-label", `Delete the adapter ${name} from this device`);
    item.append(label, remove);
    return item;
  }

  return { fill };
}

async function putOn({ adapters }: LanguageModel, name: string, kept?: StoredModel): Promise<void> {
  const isLoaded = (await adapters.list()).some((adapter) => adapter.name === name);
  if (!isLoaded && kept) await adapters.load(kept, { name });
  await adapters.use([...adapters.active, { name }]);
}

async function takeOff({ adapters }: LanguageModel, name: string): Promise<void> {
  await adapters.use(adapters.active.filter((used) => used.name !== name));
}
