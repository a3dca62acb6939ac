// The errors of this package. One line says what is wrong, the value, and what to do.

export class DynamicTinyBertError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

export class EmptyQuestionError extends DynamicTinyBertError {}
export class BudgetError extends DynamicTinyBertError {}
export class WindowError extends DynamicTinyBertError {}
export class ModelError extends DynamicTinyBertError {}
export class OptionError extends DynamicTinyBertError {}

export function wholeNumber(value, name, least) {
  if (!Number.isSafeInteger(value)) throw new OptionError(`${name} must be a whole number, not ${shown(value)}`);
  if (value < least) throw new OptionError(`${name} must be at least ${least}, not ${value}`);
  return value;
}

/** A value in a message. */
export function shown(value) {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 50 ? `${text.slice(0, 50)}…` : text;
}
