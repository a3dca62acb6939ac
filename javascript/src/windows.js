// Cut a text into windows, the model's inputs: the question and a part of the text.

import { WindowError } from "./errors.js";

/** Check that a text can be cut into windows: see `check_lengths` in Python. */
export function checkLengths({ maxSeqLength, docStride, maxQuestionLength, positions, specials }) {
  if (maxSeqLength > positions) {
    throw new WindowError(`maxSeqLength ${maxSeqLength} is more than the ${positions} tokens that the model can read`);
  }
  const room = maxSeqLength - maxQuestionLength - specials;
  if (room <= docStride) {
    throw new WindowError(
      `maxSeqLength ${maxSeqLength} less maxQuestionLength ${maxQuestionLength} and ${specials} special tokens leaves ` +
        `${room} tokens for the text, no more than the overlap docStride ${docStride}: raise maxSeqLength, or lower ` +
        "docStride or maxQuestionLength",
    );
  }
}

/**
 * Yield overlapping windows over a text, from first to last; none for a text without tokens. A window has `ids` and
 * `types` of all its tokens; `text`, the text's tokens in it, the first at `offset`; and `settled`, how many of these,
 * from the left, are in no later window.
 */
export function* cutWindows(special, question, tokens, { maxSeqLength, docStride }) {
  const head = [special.cls, ...question, ...special.between];
  const room = maxSeqLength - head.length - 1;
  for (let begin = 0; begin < tokens.length; ) {
    const last = tokens.length - begin <= room;
    const text = tokens.slice(begin, last ? tokens.length : begin + room);
    const ids = [...head, ...text.ids, special.sep];
    const types = ids.map((_, i) => (i < head.length ? 0 : 1));
    yield { ids, types, text, offset: head.length, settled: last ? text.length : room - docStride };
    if (last) return;
    begin += room - docStride;
  }
}
