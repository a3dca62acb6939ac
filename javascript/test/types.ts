// What a TypeScript program may write: `npm run types` checks it.

import { type Answer, type Budget, EmptyQuestionError, load } from "../index.js";

const budget: Budget = "balanced";
const qa = await load("./model/", { progress: (loaded: number, total: number) => console.log(loaded / total), threads: 2 });
const answer: Answer = await qa.ask("Who?", "Ada.", { budget, handleImpossibleAnswer: true });
const answers: Answer[] = await qa.ask("Who?", "Ada.", { topK: 3, budget: 0.5, noAnswerThreshold: "squad2" });
const places: number[] = [answer.start, answer.endCodePoint, answers[0]?.confidence ?? 0, answer.spent.windows];
console.log(places, qa.configurations.map((one) => one.share), new EmptyQuestionError("").message);
await qa.release();
