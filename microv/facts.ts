/** A set of formulas known to hold, and what follows from it at a glance. */

import { FALSE, isConst, type Term, TRUE } from "./term.ts";

const arg = (term: Term, index: number) => term.args[index] as Term;

/** The conjuncts of a conjunction that is being made, without repetition or evident contradiction. */
export class Facts {
  readonly terms = new Set<Term>();
  private readonly denied = new Set<Term>();
  private readonly values = new Map<Term, Term>();

  /** Adds `term`, taking conjunctions apart; false when it contradicts what is known. */
  add(term: Term): boolean {
    if (term === TRUE || this.terms.has(term)) return true;
    if (term.op === "and") return term.args.every((part) => this.add(part));
    const truth = this.decide(term);
    if (truth !== undefined) return truth;
    this.terms.add(term);
    if (term.op === "not") this.denied.add(arg(term, 0));
    if (term.op === "eq" && isConst(arg(term, 1))) this.values.set(arg(term, 0), arg(term, 1));
    return true;
  }

  remove(term: Term): void {
    this.terms.delete(term);
    if (term.op === "not") this.denied.delete(arg(term, 0));
  }

  /** Whether the facts make `term` true or false, looking at it to a depth of `depth` operators. */
  decide(term: Term, depth = 6): boolean | undefined {
    if (term === TRUE || this.terms.has(term)) return true;
    if (term === FALSE || this.denied.has(term)) return false;
    if (depth === 0) return undefined;
    if (term.op === "not") {
      const inner = this.decide(arg(term, 0), depth - 1);
      return inner === undefined ? undefined : !inner;
    }
    if (term.op === "and") {
      let all: boolean | undefined = true;
      for (const part of term.args) {
        const truth = this.decide(part, depth - 1);
        if (truth === false) return false;
        if (truth === undefined) all = undefined;
      }
      return all;
    }
    if (term.op === "eq" && isConst(arg(term, 1))) {
      const known = this.values.get(arg(term, 0));
      if (known) return known === arg(term, 1);
    }
    return undefined;
  }
}
