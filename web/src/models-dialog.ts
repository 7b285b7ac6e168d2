// The sheet in which a model is chosen, opened or deleted.

import { models, type StoredModel } from "meetara";
import { byId, make, makeButton } from "./dom.js";
import { addressChoice, SHIPPED_NAME, SHIPPED_URL, type Choice } from "./opener.js";
import { megabytes, weights } from "./words.js";

const dialog = byId("models", HTMLDialogElement);
const list = byId("model-list", HTMLUListElement);
const file = byId("file", HTMLInputElement);
const form = byId("url-form", HTMLFormElement);
const url = byId("url", HTMLInputElement);

/** Wires the sheet; `choose` opens a model, `current` tells of the open one, `adapters` is the section of its own. */
export function setUpModelsDialog(
  choose: (choice: Choice) => void,
  current: () => { key: string; parameters: number } | null,
  adapters: { fill(): Promise<void> },
): void {
  const close = (choice: Choice) => {
    dialog.close();
    choose(choice);
  };

  byId("model-button", HTMLButtonElement).addEventListener("click", () => {
    dialog.showModal();
    void fill();
    void adapters.fill();
  });
  byId("models-close", HTMLButtonElement).addEventListener("click", () => dialog.close());
  // A click on the backdrop is a click on the dialog itself.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (chosen) close({ kind: "file", file: chosen });
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      close(addressChoice(url.value));
    } catch (error) {
      url.setCustomValidity((error as Error).message);
      url.reportValidity();
    }
  });
  url.addEventListener("input", () => url.setCustomValidity(""));

  // A file dropped anywhere on the page is opened.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const dropped = event.dataTransfer?.files[0];
    if (dropped) close({ kind: "file", file: dropped });
  });

  /** Counts the fillings: one that waited for the disk must not undo a later one. */
  let latest = 0;

  async function fill(): Promise<void> {
    const turn = ++latest;
    const kept = await models.list().catch((): StoredModel[] => []);
    if (turn !== latest) return;
    const shipped = kept.find((model) => model.key === SHIPPED_URL);
    const rows = [
      row({ kind: "shipped" }, SHIPPED_URL, SHIPPED_NAME, shipped ? `${megabytes(shipped.bytes)}, on this device` : "comes with this page", shipped),
    ];
    for (const model of kept) {
      if (model === shipped) continue;
      const choice: Choice = { kind: "stored", key: model.key, name: model.name };
      rows.push(row(choice, model.key, model.name, `${megabytes(model.bytes)}, on this device`, model));
    }
    list.replaceChildren(...rows);
  }

  function row(choice: Choice, key: string, name: string, detail: string, kept?: StoredModel): HTMLLIElement {
    const item = make("li");
    const now = current();
    const isOpen = key === now?.key;
    const more = isOpen ? `${detail}, ${weights(now.parameters)}, open now` : detail;
    const open = makeButton("", "model-row", () => close(choice));
    open.append(make("span", "name", name), make("span", "detail", more));
    if (isOpen) open.setAttribute("aria-current", "true");
    item.append(open);
    if (kept) {
      const remove = makeButton("Delete", "link", () => {
        void models.delete(key).then(fill);
      });
      remove.setAttribute("aria-label", `Delete ${name} from this device`);
      item.append(remove);
    }
    return item;
  }
}
