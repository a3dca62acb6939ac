// Length configurations, and the selection of one by a budget.

import { BudgetError, shown } from "./errors.js";

const SHARE_ROUNDING = 5e-5; // shares are printed with four digits, and a user may copy one as a budget
const LEAST_LENGTH = 2;
const LENGTH_ROUNDING = 1e-6; // in floats 0.07 x 100 is a bit more than 7
const WITHIN = { balanced: 1, fast: 3 }; // the F1 that a named budget may lose

/**
 * How many tokens of a window remain after each layer: `max(2, ceil(fraction * tokens - 1e-6))`.
 * @returns {number[]} `[layers]`
 */
export function lengths(fractions, tokens) {
  return fractions.map((fraction) => {
    const kept = Math.ceil(fraction * tokens - LENGTH_ROUNDING);
    return Math.min(Math.max(kept, Math.min(LEAST_LENGTH, tokens)), tokens);
  });
}

/** Select the configuration for a budget: a share in (0, 1], "full", "balanced" or "fast". */
export function select(configs, budget) {
  const full = configs.find((config) => config.fractions.every((fraction) => fraction === 1));
  const measured = full.f1 !== null;
  if (budget === "full") return full;
  if (typeof budget === "string" && Object.hasOwn(WITHIN, budget)) {
    if (!measured) return full;
    const floor = full.f1 - WITHIN[budget] - 1e-9;
    return least(configs.filter((config) => config.f1 >= floor));
  }
  if (typeof budget !== "number" || !(budget > 0 && budget <= 1)) {
    throw new BudgetError(`a budget must be a share in (0, 1], "full", "balanced" or "fast", not ${shown(budget)}`);
  }
  if (budget === 1 && !measured) return full;
  const affordable = configs.filter((config) => config.share <= budget + SHARE_ROUNDING);
  if (!affordable.length) return least(configs);
  const worth = (config) => config.f1 ?? config.share;
  return affordable.reduce((best, config) =>
    worth(config) > worth(best) || (worth(config) === worth(best) && config.share < best.share) ? config : best,
  );
}

const least = (configs) => configs.reduce((best, config) => (config.share < best.share ? config : best));
