/**
 * Facts about every entry of a memory, given to the solver entry by entry.
 *
 * An invariant such as "each valid table entry points to a table of the next level" holds for all keys. Solvers do badly with the
 * quantifier, and it is not needed: the fact matters only at the keys at which the formula reads the memory, and there are finitely
 * many. Leaving instances out only weakens the hypotheses: it can make a true goal fail, never a false one succeed.
 */

import { applicationsOf, type Term, TRUE } from "./term.ts";

/** A fact for each key of a memory. */
export interface EntryFact {
  /** Name of the memory's base, as given to `Memory.arbitrary`. */
  readonly memory: string;
  /** The fact about one entry. */
  at(key: Term): Term;
}

/** More instances than this mean that instances keep reading new entries. */
const MOST_INSTANCES = 20_000;

/**
 * The instances of `facts` at the keys that occur in `formulas`, then, round by round, at those that occur in the instances.
 * @returns the instances, and whether another round would give more
 * @throws Error when there are absurdly many
 */
export function instantiate(
  formulas: readonly Term[],
  facts: readonly EntryFact[],
  rounds: number,
): { instances: Term[]; complete: boolean } {
  const instances: Term[] = [];
  const done = new Map(facts.map((fact) => [fact, new Set<Term>()]));
  let frontier = formulas;
  for (let round = 0; ; round++) {
    const reads = readsByMemory(frontier);
    const wanted = facts.flatMap((fact) => {
      const seen = done.get(fact) as Set<Term>;
      return [...(reads.get(fact.memory) ?? [])]
        .filter((key) => !seen.has(key))
        .map((key) => ({ fact, key, seen }));
    });
    if (wanted.length === 0) return { instances, complete: true };
    if (round === rounds) return { instances, complete: false };
    frontier = wanted.map(({ fact, key, seen }) => {
      seen.add(key);
      return fact.at(key);
    });
    instances.push(...frontier.filter((instance) => instance !== TRUE));
    if (instances.length > MOST_INSTANCES)
      throw new Error(`more than ${MOST_INSTANCES} instances of entry facts`);
  }
}

/** The keys at which the formulas read each memory, by the name of its base. */
function readsByMemory(formulas: readonly Term[]): Map<string, Set<Term>> {
  const reads = new Map<string, Set<Term>>();
  for (const { name, args } of applicationsOf(formulas)) {
    const keys = reads.get(name) ?? new Set();
    reads.set(name, keys.add(args[0] as Term));
  }
  return reads;
}
