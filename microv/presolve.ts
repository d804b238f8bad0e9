/**
 * Uses what a query asserts outright to simplify the rest of it.
 *
 * Hypotheses such as "the root is page-aligned" fix bits of a word. With those bits put in place, the simplifier turns an address into a
 * concatenation where it would otherwise stay a sum, and whole comparisons fall away. The facts themselves stay asserted, so the result
 * is equivalent to the original: it has the same models.
 */

import { and, concat, extract } from "./build.ts";
import { substitute } from "./substitute.ts";
import { bv, FALSE, isConst, type Term, TRUE } from "./term.ts";

/** Rounds of simplification; each may uncover new facts. */
const ROUNDS = 6;

/** A run of known bits of a variable or of an application. */
interface KnownBits {
  readonly high: number;
  readonly low: number;
  readonly value: Term;
}

const isLeaf = (term: Term) => term.op === "var" || term.op === "apply";

/** What `assertion` says of the bits of one leaf, if that is all it says. */
function knownBits(assertion: Term): { leaf: Term; bits: KnownBits } | undefined {
  const truth = assertion.op !== "not";
  const inner = truth ? assertion : (assertion.args[0] as Term);
  if (inner.op !== "eq") return undefined;
  const [word, value] = inner.args as [Term, Term];
  if (!isConst(value) || (!truth && value.width !== 1)) return undefined;
  const bits = truth ? value : bv(1n - value.value, 1);
  if (isLeaf(word)) return { leaf: word, bits: { high: word.width - 1, low: 0, value: bits } };
  if (word.op !== "extract" || !isLeaf(word.args[0] as Term)) return undefined;
  return { leaf: word.args[0] as Term, bits: { high: word.high, low: word.low, value: bits } };
}

/** The leaf with its known bits as constants. */
function withKnownBits(leaf: Term, known: readonly KnownBits[]): Term {
  const parts: Term[] = [];
  let top = leaf.width - 1;
  for (const { high, low, value } of [...known].sort((a, b) => b.high - a.high)) {
    if (high > top) continue;
    if (high < top) parts.push(extract(top, high + 1, leaf));
    parts.push(value);
    top = low - 1;
  }
  if (top >= 0) parts.push(extract(top, 0, leaf));
  return concat(...parts);
}

function conjuncts(assertions: readonly Term[]): readonly Term[] {
  const all = and(...assertions);
  return all.op === "and" ? all.args : [all];
}

/**
 * Assertions with the same models as the given ones, usually much smaller.
 *
 * Why the models are the same: an assertion is only changed where assertions that are its proper subterms, or facts about the bits of leaves
 * inside it, allow it; a fact about a leaf keeps that leaf. In a model of the result, the assertions without such subterms hold, hence
 * those made of them, and so on upward.
 */
export function presolve(assertions: readonly Term[]): readonly Term[] {
  return presolveFor(assertions, []).assertions;
}

/** {@link presolve}, and formulas that mean under the assertions what the given ones do. */
export function presolveFor(
  assertions: readonly Term[],
  formulas: readonly Term[],
): { assertions: readonly Term[]; formulas: readonly Term[] } {
  let current = conjuncts(assertions);
  let others = formulas;
  const used = new Set<Term>();
  for (let round = 0; round < ROUNDS; round++) {
    const bits = new Map<Term, KnownBits[]>();
    const truths = new Map<Term, Term>();
    for (const fact of current) {
      const known = knownBits(fact);
      if (known) bits.set(known.leaf, [...(bits.get(known.leaf) ?? []), known.bits]);
      else if (fact.op === "not") truths.set(fact.args[0] as Term, FALSE);
      else truths.set(fact, TRUE);
    }
    const leaves = new Map([...bits].map(([leaf, known]) => [leaf, withKnownBits(leaf, known)]));
    if (current.every((fact) => used.has(fact))) break;
    for (const fact of current) used.add(fact);
    const next = current.flatMap((assertion) => {
      const own = assertion.op === "not" ? (assertion.args[0] as Term) : assertion;
      const leaf = knownBits(assertion)?.leaf;
      return substitute([assertion], (rebuilt, original) => {
        if (original === assertion || original === own || original === leaf) return undefined;
        return leaves.get(rebuilt) ?? truths.get(original);
      });
    });
    current = conjuncts(next);
    others = substitute(others, (rebuilt, original) => leaves.get(rebuilt) ?? truths.get(original));
  }
  return { assertions: current, formulas: others };
}
