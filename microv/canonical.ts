/**
 * An order of terms, and a digest of formulas, that depend only on what the formulas say: not on the order in which their terms happened
 * to be made. With it the same question gives the same clauses in every run, so a stored proof still fits after an unrelated edit.
 */

import { createHash } from "node:crypto";
import type { Op, Term } from "./term.ts";

const COMMUTATIVE: ReadonlySet<Op> = new Set<Op>(["and", "eq", "band", "bor", "bxor", "add", "mul"]);

/** Structural hashes of 52 bits. A collision costs a cache miss, nothing else. */
const hashes = new WeakMap<Term, number>();

function mix(a: number, b: number): number {
  const high = Math.imul(a ^ (b >>> 3), 0x9e3779b1) ^ (b >>> 11);
  const low = Math.imul((a / 2 ** 26) ^ b, 0x85ebca6b) ^ Math.imul(b, 0xc2b2ae35);
  return (((high ^ (high >>> 13)) >>> 6) * 2 ** 26 + ((low ^ (low >>> 16)) >>> 6)) % 2 ** 52;
}

function mixText(hash: number, text: string): number {
  let result = hash;
  for (let i = 0; i < text.length; i++) result = mix(result, text.charCodeAt(i));
  return result;
}

/** The hash of a term whose arguments are hashed. */
function hashOf(term: Term): number {
  let hash = mixText(
    mix(term.width, term.high * 4096 + term.low),
    `${term.op}|${term.name}|${term.value.toString(16)}`,
  );
  for (const arg of canonicalArgs(term)) hash = mix(hash, hashes.get(arg) ?? 0);
  return hash;
}

function byHash(a: Term, b: Term): number {
  return (hashes.get(a) ?? 0) - (hashes.get(b) ?? 0) || a.id - b.id;
}

/** The arguments, those of a commutative operator in canonical order; a constant factor stays last. Only for terms already visited. */
export function canonicalArgs(term: Term): readonly Term[] {
  if (!COMMUTATIVE.has(term.op) || (term.op === "mul" && term.args[1]?.op === "const")) return term.args;
  return [...term.args].sort(byHash);
}

/**
 * Every term of the formulas once, arguments first, in canonical order. Uses no recursion.
 * @param known terms that are left out, with what only occurs below them
 */
export function canonicalOrder(roots: readonly Term[], known?: { has(term: Term): boolean }): Term[] {
  const order: Term[] = [];
  const seen = new Set<Term>();
  const stack: { term: Term; ready: boolean }[] = [];
  for (const root of canonicalRoots(roots)) {
    stack.push({ term: root, ready: false });
    for (let top = stack.pop(); top; top = stack.pop()) {
      if (top.ready) {
        order.push(top.term);
        continue;
      }
      if (seen.has(top.term) || known?.has(top.term)) continue;
      seen.add(top.term);
      stack.push({ term: top.term, ready: true });
      for (const arg of [...canonicalArgs(top.term)].reverse()) {
        if (!seen.has(arg)) stack.push({ term: arg, ready: false });
      }
    }
  }
  return order;
}

/** The formulas themselves in canonical order, each once. */
export function canonicalRoots(roots: readonly Term[]): Term[] {
  hashAll(roots);
  return [...new Set(roots)].sort(byHash);
}

function hashAll(roots: readonly Term[]): void {
  const stack = [...roots];
  for (let term = stack.at(-1); term; term = stack.at(-1)) {
    const missing = hashes.has(term) ? [] : term.args.filter((arg) => !hashes.has(arg));
    if (missing.length > 0) {
      stack.push(...missing);
      continue;
    }
    if (!hashes.has(term)) hashes.set(term, hashOf(term));
    stack.pop();
  }
}

/** SHA-256 of the formulas, as a set. */
export function digest(assertions: readonly Term[]): string {
  const numbers = new Map<Term, number>();
  const hash = createHash("sha256");
  for (const term of canonicalOrder(assertions)) {
    const args = canonicalArgs(term).map((arg) => numbers.get(arg));
    hash.update(
      JSON.stringify([term.op, term.width, term.name, term.value.toString(), term.high, term.low, args]),
    );
    numbers.set(term, numbers.size);
  }
  hash.update(
    assertions
      .map((term) => numbers.get(term) as number)
      .sort((a, b) => a - b)
      .join(),
  );
  return hash.digest("hex");
}
