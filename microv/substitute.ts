/** Rebuilding terms with some of their parts replaced. */

import {
  add,
  and,
  ashr,
  band,
  bnot,
  bor,
  bxor,
  concat,
  eq,
  extract,
  ite,
  lshr,
  mul,
  not,
  sdiv,
  sext,
  shl,
  slt,
  srem,
  udiv,
  ult,
  urem,
} from "./build.ts";
import { node, type Op, postorder, type Term } from "./term.ts";

/** The term with the operator of `term` and other arguments, simplified again. */
export function rebuild(term: Term, args: readonly Term[]): Term {
  const [a, b, c] = args as [Term, Term, Term];
  switch (term.op) {
    case "const":
    case "var":
      return term;
    case "apply":
      return node("apply", args, term.width, { name: term.name });
    case "extract":
      return extract(term.high, term.low, a);
    case "sext":
      return sext(a, term.width);
    case "ite":
      return ite(a, b, c);
    default:
      return REBUILD[term.op](...args);
  }
}

type Rebuilder = (...args: Term[]) => Term;

const REBUILD = {
  not,
  and,
  eq,
  ult,
  slt,
  concat,
  bnot,
  band,
  bor,
  bxor,
  add,
  mul,
  udiv,
  urem,
  sdiv,
  srem,
  shl,
  lshr,
  ashr,
} as Record<Exclude<Op, "const" | "var" | "apply" | "extract" | "sext" | "ite">, Rebuilder>;

/**
 * The formulas with every term for which `replace` gives another one replaced by it, arguments first (the replacement itself is not
 * looked into). `replace` sees the term with its arguments already replaced, and as it was. Uses no recursion.
 */
export function substitute(
  roots: readonly Term[],
  replace: (rebuilt: Term, original: Term) => Term | undefined,
): Term[] {
  const results = new Map<Term, Term>();
  for (const term of postorder(roots)) {
    const args = term.args.map((a) => results.get(a) as Term);
    const rebuilt = args.every((a, i) => a === term.args[i]) ? term : rebuild(term, args);
    results.set(term, replace(rebuilt, term) ?? rebuilt);
  }
  return roots.map((root) => results.get(root) as Term);
}

/** Renames variables and uninterpreted functions: the same formula about another run or another state. */
export function rename(roots: readonly Term[], to: (name: string) => string): Term[] {
  return substitute(roots, (term) =>
    term.op === "var" || term.op === "apply"
      ? node(term.op, term.args, term.width, { name: to(term.name) })
      : undefined,
  );
}
