// What somebody chose on this page and is remembered on this device: nothing of what they wrote.

function recall(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    // Storage that is blocked or absent remembers nothing, which is no fault.
    return null;
  }
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // See recall.
  }
}

const LAST_MODEL = "meetara.model";
const FEELINGS = "meetara.feelings";
const REGION = "meetara.region";

/** The key of the model that was open last. */
export const lastModel = { get: () => recall(LAST_MODEL), set: (key: string) => remember(LAST_MODEL, key) };

/** Whether feelings may be read; null: not asked yet. */
export const feelingsChoice = {
  get: (): boolean | null => {
    const choice = recall(FEELINGS);
    return choice === "on" ? true : choice === "off" ? false : null;
  },
  set: (on: boolean) => remember(FEELINGS, on ? "on" : "off"),
};

/** The country whose help lines are named: a code, "" for none in particular; null: not chosen. */
export const regionChoice = { get: () => recall(REGION), set: (region: string) => remember(REGION, region) };
