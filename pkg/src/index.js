// Small language models that run where this code runs.

export { ChatClient } from "./chat.js";
export { LanguageModel } from "./language-model.js";
export { models } from "./models.js";
export { TextClassifier } from "./text-classifier.js";
export { TextReader } from "./text-reader.js";
