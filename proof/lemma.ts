/** Lemmas: problems about no function. */
import type { Problem } from "../microv/index.ts";

/** The lemma of this name. It is made when it is asked for: most runs look at few. */
export function lemma(name: string, make: () => Omit<Problem, "name">): Problem {
  let made: Omit<Problem, "name"> | undefined;
  const get = () => {
    made ??= make();
    return made;
  };
  return {
    name,
    get hypotheses() {
      return get().hypotheses;
    },
    get entryFacts() {
      return get().entryFacts ?? [];
    },
    get goals() {
      return get().goals;
    },
  };
}
