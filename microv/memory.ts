/**
 * Functional memory: a map from words to words, as an uninterpreted base and a log of writes.
 *
 * Nothing is ever overwritten: each write makes a new memory that remembers the old one. A read walks the log and yields a choice
 * between what was written and what the base holds, simplified on the way, so the solver sees no arrays (about fifteen times faster
 * than SMT arrays on page tables). Bulk writes (a zeroed page, a copied page, "anything may change here") are one entry, however
 * many words they touch.
 */

import { and, eq, ite } from "./build.ts";
import type { Evaluator, Model } from "./evaluate.ts";
import { apply, bv, isConst, type Term, TRUE } from "./term.ts";

type Step =
  | { readonly kind: "base"; readonly name?: string; readonly read: (key: Term) => Term }
  | {
      readonly kind: "store";
      readonly previous: Memory;
      readonly condition: Term;
      readonly key: Term;
      readonly value: Term;
    }
  | { readonly kind: "bulk"; readonly previous: Memory; readonly rewrite: (key: Term, old: Term) => Term }
  | { readonly kind: "merge"; readonly condition: Term; readonly yes: Memory; readonly no: Memory };

/** An immutable map from words of `keyWidth` bits to words of `valueWidth` bits. */
export class Memory {
  readonly keyWidth: number;
  readonly valueWidth: number;
  private readonly step: Step;
  private readonly known = new Map<Term, Term>();

  private constructor(keyWidth: number, valueWidth: number, step: Step) {
    this.keyWidth = keyWidth;
    this.valueWidth = valueWidth;
    this.step = step;
  }

  /** A memory with arbitrary contents: the uninterpreted function `name`. */
  static arbitrary(name: string, keyWidth: number, valueWidth: number): Memory {
    const read = (key: Term) => apply(name, valueWidth, key);
    return new Memory(keyWidth, valueWidth, { kind: "base", name, read });
  }

  /** A memory given by what a read of each key yields. */
  static from(keyWidth: number, valueWidth: number, read: (key: Term) => Term): Memory {
    return new Memory(keyWidth, valueWidth, { kind: "base", read });
  }

  /** A memory that holds `value` everywhere. */
  static filled(keyWidth: number, value: Term): Memory {
    return Memory.from(keyWidth, value.width, () => value);
  }

  /** `yes` if `condition`, else `no`; both of the same shape. */
  static ite(condition: Term, yes: Memory, no: Memory): Memory {
    if (yes === no || condition === TRUE) return yes;
    if (isConst(condition)) return no;
    if (yes.keyWidth !== no.keyWidth || yes.valueWidth !== no.valueWidth) {
      throw new RangeError(`choice between a ${yes.shape()} and a ${no.shape()} memory`);
    }
    return new Memory(yes.keyWidth, yes.valueWidth, { kind: "merge", condition, yes, no });
  }

  /** The name of an arbitrary memory that nothing was written to; none for others. */
  get baseName(): string | undefined {
    return this.step.kind === "base" ? this.step.name : undefined;
  }

  private shape(): string {
    return `${this.keyWidth} -> ${this.valueWidth} bit`;
  }

  private check(key: Term): void {
    if (key.width !== this.keyWidth) {
      throw new RangeError(`key of ${key.width} bits for a ${this.shape()} memory`);
    }
  }

  /** This memory with `value` at `key`; only if `condition`, when it is given. */
  store(key: Term, value: Term, condition: Term = TRUE): Memory {
    this.check(key);
    if (value.width !== this.valueWidth) {
      throw new RangeError(`value of ${value.width} bits for a ${this.shape()} memory`);
    }
    if (isConst(condition) && condition !== TRUE) return this;
    return new Memory(this.keyWidth, this.valueWidth, {
      kind: "store",
      previous: this,
      condition,
      key,
      value,
    });
  }

  /**
   * This memory after a bulk write: at each key, `rewrite(key, old)` where `old` is what this memory holds there. `rewrite` is called
   * once for each key that is ever read, so it must be a pure function of its arguments and of memories that exist already.
   * @example memory.rewrite((key, old) => ite(eq(extract(44, 9, key), page), bv(0, 64), old))  // zero a page
   */
  rewrite(rewrite: (key: Term, old: Term) => Term): Memory {
    return new Memory(this.keyWidth, this.valueWidth, { kind: "bulk", previous: this, rewrite });
  }

  /** Keys of the single stores in the log, back to the base. */
  storedKeys(): Set<Term> {
    const keys = new Set<Term>();
    const seen = new Set<Memory>([this]);
    for (const memory of seen) {
      const step = memory.step;
      if (step.kind === "merge") seen.add(step.yes).add(step.no);
      else if (step.kind !== "base") seen.add(step.previous);
      if (step.kind === "store") keys.add(step.key);
    }
    return keys;
  }

  /** What this memory holds at `key`. Uses no recursion along the log. */
  read(key: Term): Term {
    this.check(key);
    const stack: Memory[] = [this];
    for (let memory = stack.at(-1); memory; memory = stack.at(-1)) {
      const value = memory.attempt(key);
      if (value instanceof Memory) {
        stack.push(value);
        continue;
      }
      memory.known.set(key, value);
      stack.pop();
    }
    return this.known.get(key) as Term;
  }

  /** The value at `key`, or an older memory that must be read at `key` first. */
  private attempt(key: Term): Term | Memory {
    const known = this.known.get(key);
    if (known) return known;
    const step = this.step;
    switch (step.kind) {
      case "base":
        return step.read(key);
      case "store": {
        const hit = and(step.condition, eq(step.key, key));
        if (hit === TRUE) return step.value;
        const old = step.previous.known.get(key);
        return old ? ite(hit, step.value, old) : step.previous;
      }
      case "bulk": {
        const old = step.previous.known.get(key);
        return old ? step.rewrite(key, old) : step.previous;
      }
      case "merge": {
        const yes = step.yes.known.get(key);
        if (!yes) return step.yes;
        const no = step.no.known.get(key);
        return no ? ite(step.condition, yes, no) : step.no;
      }
    }
  }

  /** This memory with constants for everything symbolic, as a model has it: reads of constant keys give constants. */
  underModel(evaluator: Evaluator): Memory {
    return Memory.from(this.keyWidth, this.valueWidth, (key) =>
      bv(evaluator.value(this.read(key)), this.valueWidth),
    );
  }
}

/** What a model says of the memory `name`, as `[key, value]`, in order of keys. */
export function contentsIn(model: Model, name: string): [bigint, bigint][] {
  const pairs = [...model.entries(name)].map(([args, value]): [bigint, bigint] => [args[0] ?? 0n, value]);
  return pairs.sort(([a], [b]) => (a < b ? -1 : 1));
}
