// biome-ignore-all lint/style/noNonNullAssertion: indices come from the arena itself, which is bounds-checked where it is filled
/**
 * Checks that a proof shows a set of clauses to be contradictory. Independent of every solver; small, because it is trusted.
 *
 * A proof is a list of clauses to add and to delete (DRUP, as CaDiCaL writes it). An added clause is accepted when it has the RUP
 * property: assuming all its literals false and propagating units through the clauses before it gives a contradiction. RAT steps are
 * refused; CaDiCaL makes none unless told to eliminate blocked or covered clauses, which are off by default.
 *
 * The check runs backward from the contradiction and looks only at clauses that something later was derived from, preferring those
 * already known to matter when it propagates (Heule, Hunt, Wetzler: Trimming while checking clausal proofs, 2013). A deletion is
 * ignored when the clause is the reason for a unit: keeping a clause can never make a RUP step wrong.
 */

import type { Cnf } from "./cnf.ts";

export type ProofFormat = "binary" | "text";

export interface Verdict {
  readonly ok: boolean;
  /** Why not; empty when the proof is accepted. */
  readonly reason: string;
  /** Lemmas in the proof, and those that mattered and were checked. */
  readonly lemmas: number;
  readonly checked: number;
  /** The proof with nothing but the checked lemmas, in the binary format; it is accepted too. */
  readonly trimmed: Uint8Array;
}

/** Thrown inside for a proof that is not one. */
class Refused extends Error {}

interface Step {
  readonly remove: boolean;
  readonly literals: number[];
}

/** The steps of a proof in either format. */
function* steps(proof: Uint8Array, format: ProofFormat): Generator<Step> {
  if (format === "text") {
    for (const line of new TextDecoder().decode(proof).split("\n")) {
      if (line === "" || line.startsWith("c")) continue;
      const remove = line.startsWith("d ");
      const literals = (remove ? line.slice(2) : line).trim().split(/\s+/).map(Number);
      if (literals.pop() !== 0 || literals.some((x) => !Number.isInteger(x) || x === 0))
        throw new Refused(`bad line ${line}`);
      yield { remove, literals };
    }
    return;
  }
  for (let at = 0; at < proof.length; ) {
    const kind = proof[at++]!;
    if (kind !== 0x61 && kind !== 0x64) throw new Refused(`byte ${at - 1} begins no step`);
    const literals: number[] = [];
    for (;;) {
      let code = 0;
      let scale = 1;
      for (;;) {
        const byte = proof[at++];
        if (byte === undefined) throw new Refused("the last step has no end");
        code += (byte & 127) * scale;
        scale *= 128;
        if (byte < 128) break;
      }
      if (code === 0) break;
      literals.push(code % 2 === 0 ? code / 2 : -(code - 1) / 2);
    }
    yield { remove: kind === 0x64, literals };
  }
}

/** A proof that adds `lemmas`, in the binary format. */
function writeBinary(lemmas: readonly (readonly number[])[]): Uint8Array {
  const bytes: number[] = [];
  for (const lemma of lemmas) {
    bytes.push(0x61);
    for (const literal of lemma) {
      let code = literal > 0 ? 2 * literal : -2 * literal + 1;
      for (; code > 127; code = Math.floor(code / 128)) bytes.push((code % 128) + 128);
      bytes.push(code);
    }
    bytes.push(0);
  }
  return Uint8Array.from(bytes);
}

/** Literals inside the checker: 2v for a variable, 2v + 1 for its negation. */
const encode = (literal: number) => (literal > 0 ? 2 * literal : -2 * literal + 1);
const decode = (code: number) => (code & 1 ? -(code >> 1) : code >> 1);

/** Lists of clauses, one for each literal: those in which it is one of the two watched ones. */
class Watches {
  private readonly lists: Int32Array[];
  private readonly counts: Int32Array;

  constructor(literals: number) {
    const none = new Int32Array(0);
    this.lists = new Array(literals).fill(none);
    this.counts = new Int32Array(literals);
  }

  list(literal: number): Int32Array {
    return this.lists[literal]!;
  }

  count(literal: number): number {
    return this.counts[literal]!;
  }

  truncate(literal: number, count: number): void {
    this.counts[literal] = count;
  }

  add(literal: number, clause: number): void {
    const count = this.counts[literal]!++;
    let list = this.lists[literal]!;
    if (count === list.length) {
      const larger = new Int32Array(Math.max(4, 2 * count));
      larger.set(list);
      list = larger;
      this.lists[literal] = list;
    }
    list[count] = clause;
  }

  remove(literal: number, clause: number): void {
    const list = this.lists[literal]!;
    const last = --this.counts[literal]!;
    const at = list.indexOf(clause);
    list[at] = list[last]!;
  }
}

/** A clause is a place in the arena: length, whether it matters, next clause in its chain, then the literals, the watched ones first. */
const LITERALS = 3;

class Checker {
  private arena = new Int32Array(1 << 16);
  private end = 1;
  private readonly value: Int8Array;
  private readonly reason: Int32Array;
  private readonly position: Int32Array;
  private readonly seen: Uint8Array;
  private readonly trail: Int32Array;
  private assigned = 0;
  private coreHead = 0;
  private idleHead = 0;
  private readonly core: Watches;
  private readonly idle: Watches;
  /** First clause of each chain of equal hash. */
  private readonly buckets = new Int32Array(1 << 16);
  /** Literals with the current stamp are those of the clause being stored. */
  private readonly stamps: Int32Array;
  private stamp = 0;
  /** Additions as clauses, deletions as negated clauses, 0 for what has no effect. */
  private readonly log: number[] = [];
  lemmas = 0;
  checked = 0;

  constructor(variables: number) {
    const literals = 2 * variables + 2;
    this.value = new Int8Array(literals);
    this.reason = new Int32Array(variables + 1);
    this.position = new Int32Array(variables + 1);
    this.seen = new Uint8Array(variables + 1);
    this.trail = new Int32Array(variables + 1);
    this.stamps = new Int32Array(literals);
    this.core = new Watches(literals);
    this.idle = new Watches(literals);
  }

  // --------------------------------------------------------------------------------------------------------------- clauses

  private length(clause: number): number {
    return this.arena[clause]!;
  }

  private literal(clause: number, i: number): number {
    return this.arena[clause + LITERALS + i]!;
  }

  literals(clause: number): number[] {
    return Array.from(
      this.arena.subarray(clause + LITERALS, clause + LITERALS + this.length(clause)),
      decode,
    );
  }

  matters(clause: number): boolean {
    return this.arena[clause + 1] === 1;
  }

  /** Stores a clause without repeated literals; 0 for one that holds in any case. */
  private store(literals: ArrayLike<number>): number {
    const clause = this.end;
    const most = clause + LITERALS + literals.length;
    if (most > this.arena.length) {
      const larger = new Int32Array(2 * most);
      larger.set(this.arena);
      this.arena = larger;
    }
    this.stamp++;
    let at = clause + LITERALS;
    for (let i = 0; i < literals.length; i++) {
      const code = encode(literals[i]!);
      if (code >= this.value.length) throw new Refused(`unknown variable ${literals[i]}`);
      if (this.stamps[code ^ 1] === this.stamp) return 0;
      if (this.stamps[code] === this.stamp) continue;
      this.stamps[code] = this.stamp;
      this.arena[at++] = code;
    }
    this.end = at;
    this.arena[clause] = at - clause - LITERALS;
    this.arena[clause + 1] = 0;
    const bucket = this.bucketOf(clause + LITERALS, at);
    this.arena[clause + 2] = this.buckets[bucket]!;
    this.buckets[bucket] = clause;
    return clause;
  }

  /** The chain of clauses with the same literals as those in this range of the arena, in any order, and perhaps others. */
  private bucketOf(start: number, end: number): number {
    let [sum, product, both] = [0, 1, 0];
    for (let i = start; i < end; i++) {
      const code = this.arena[i]!;
      sum = (sum + code) | 0;
      product = Math.imul(product, 2 * code + 1);
      both ^= code;
    }
    const hash = Math.imul(sum, 1023) ^ product ^ Math.imul(both, 31);
    return (hash ^ (hash >>> 16)) & (this.buckets.length - 1);
  }

  /** Takes a clause with these literals out of the index; 0 when there is none. */
  private take(literals: readonly number[]): number {
    const sample = this.store(literals);
    if (sample === 0) return 0;
    const length = this.length(sample);
    const bucket = this.bucketOf(sample + LITERALS, this.end);
    this.end = sample;
    let previous = sample;
    for (let clause = this.arena[sample + 2]!; clause !== 0; clause = this.arena[clause + 2]!) {
      let i = this.length(clause) === length ? 0 : length + 1;
      while (i < length && this.stamps[this.literal(clause, i)] === this.stamp) i++;
      if (i === length) {
        this.arena[previous + 2] = this.arena[clause + 2]!;
        this.buckets[bucket] = this.arena[sample + 2]!;
        return clause;
      }
      previous = clause;
    }
    this.buckets[bucket] = this.arena[sample + 2]!;
    return 0;
  }

  /** How good a literal is to watch: unassigned or true is best, else the one that became false last. */
  private watchRank(code: number): number {
    return this.value[code] === -1 ? this.position[code >> 1]! : this.trail.length;
  }

  private swap(clause: number, i: number, j: number): void {
    const first = this.literal(clause, i);
    this.arena[clause + LITERALS + i] = this.literal(clause, j);
    this.arena[clause + LITERALS + j] = first;
  }

  private watchesOf(clause: number): Watches {
    return this.matters(clause) ? this.core : this.idle;
  }

  /** Starts to watch the two best literals of a clause. */
  private attach(clause: number): void {
    const length = this.length(clause);
    for (let target = 0; target < 2 && target < length; target++) {
      let best = target;
      for (let i = target + 1; i < length; i++) {
        if (this.watchRank(this.literal(clause, i)) > this.watchRank(this.literal(clause, best))) best = i;
      }
      this.swap(clause, target, best);
    }
    if (length < 2) return;
    this.watchesOf(clause).add(this.literal(clause, 0), clause);
    this.watchesOf(clause).add(this.literal(clause, 1), clause);
  }

  private detach(clause: number): void {
    if (this.length(clause) < 2) return;
    this.watchesOf(clause).remove(this.literal(clause, 0), clause);
    this.watchesOf(clause).remove(this.literal(clause, 1), clause);
  }

  private markMattering(clause: number): void {
    if (this.matters(clause)) return;
    this.detach(clause);
    this.arena[clause + 1] = 1;
    if (this.length(clause) < 2) return;
    this.core.add(this.literal(clause, 0), clause);
    this.core.add(this.literal(clause, 1), clause);
  }

  // ----------------------------------------------------------------------------------------------------------- propagation

  private assign(code: number, reason: number): void {
    this.value[code] = 1;
    this.value[code ^ 1] = -1;
    this.reason[code >> 1] = reason;
    this.position[code >> 1] = this.assigned;
    this.trail[this.assigned++] = code;
  }

  private undoTo(assigned: number): void {
    while (this.assigned > assigned) {
      const code = this.trail[--this.assigned]!;
      this.value[code] = 0;
      this.value[code ^ 1] = 0;
      this.reason[code >> 1] = 0;
    }
    this.coreHead = assigned;
    this.idleHead = assigned;
  }

  /** Propagates units, through the clauses that matter first; gives a clause that became false, or 0. */
  private propagate(): number {
    for (;;) {
      let conflict = 0;
      if (this.coreHead < this.assigned) conflict = this.visit(this.core, this.trail[this.coreHead++]! ^ 1);
      else if (this.idleHead < this.assigned)
        conflict = this.visit(this.idle, this.trail[this.idleHead++]! ^ 1);
      else return 0;
      if (conflict) return conflict;
    }
  }

  /** Looks at the clauses that watch the literal `falsified`. */
  private visit(watches: Watches, falsified: number): number {
    const { arena, value } = this;
    const list = watches.list(falsified);
    const count = watches.count(falsified);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const clause = list[i]!;
      const first = clause + LITERALS;
      if (arena[first] === falsified) {
        arena[first] = arena[first + 1]!;
        arena[first + 1] = falsified;
      }
      const other = arena[first]!;
      if (value[other] !== 1) {
        const end = first + arena[clause]!;
        let at = first + 2;
        while (at < end && value[arena[at]!] === -1) at++;
        if (at < end) {
          const replacement = arena[at]!;
          arena[first + 1] = replacement;
          arena[at] = falsified;
          watches.add(replacement, clause);
          continue;
        }
        if (value[other] === -1) {
          list.copyWithin(kept, i, count);
          watches.truncate(falsified, kept + count - i);
          return clause;
        }
        this.assign(other, clause);
      }
      list[kept++] = clause;
    }
    watches.truncate(falsified, kept);
    return 0;
  }

  /** Marks every clause that a contradiction came from: `clause`, and the reasons of its literals, and so on. */
  private markReasons(clause: number): void {
    const visited: number[] = [];
    const work = [clause];
    for (let next = work.pop(); next !== undefined; next = work.pop()) {
      this.markMattering(next);
      for (let i = 0; i < this.length(next); i++) {
        const variable = this.literal(next, i) >> 1;
        if (this.seen[variable]) continue;
        this.seen[variable] = 1;
        visited.push(variable);
        if (this.reason[variable]) work.push(this.reason[variable]!);
      }
    }
    for (const variable of visited) this.seen[variable] = 0;
  }

  // -------------------------------------------------------------------------------------------------------------- the check

  /** Puts a clause into force; gives a clause that became false, or 0. */
  private enforce(clause: number): number {
    this.attach(clause);
    if (this.length(clause) === 0) return clause;
    const first = this.literal(clause, 0);
    const second = this.length(clause) > 1 ? this.literal(clause, 1) : 0;
    if (this.value[first] === -1) return clause;
    if (this.value[first] === 0 && (second === 0 || this.value[second] === -1)) {
      this.assign(first, clause);
      return this.propagate();
    }
    return 0;
  }

  /** Puts the formula into force; gives a contradiction if units alone yield one. */
  load(cnf: Cnf): number {
    const { literals } = cnf;
    let conflict = 0;
    for (let at = 0; at < literals.length; ) {
      const end = literals.indexOf(0, at);
      const clause = this.store(literals.subarray(at, end));
      if (clause && !conflict) conflict = this.enforce(clause);
      at = end + 1;
    }
    return conflict;
  }

  /** Applies the proof until there is a contradiction; then everything before it is justified, last first. */
  check(proof: Iterable<Step>): void {
    let conflict = 0;
    for (const { remove, literals } of proof) {
      if (!remove && literals.length === 0) break;
      if (remove) {
        const clause = this.take(literals);
        if (clause && !this.isReason(clause)) {
          this.detach(clause);
          this.log.push(-clause);
        }
        continue;
      }
      this.lemmas++;
      const clause = this.store(literals);
      if (!clause) continue;
      this.log.push(clause);
      conflict = this.enforce(clause);
      if (conflict) break;
    }
    if (!conflict) throw new Refused("the proof ends without a contradiction");
    this.markReasons(conflict);
    for (let i = this.log.length - 1; i >= 0; i--) {
      const clause = this.log[i]!;
      if (clause < 0) {
        this.attach(-clause);
        continue;
      }
      if (this.isReason(clause)) this.undoTo(this.position[this.literal(clause, 0) >> 1]!);
      this.detach(clause);
      if (this.matters(clause)) this.justify(clause);
    }
  }

  /** Whether the clause made its first literal true. */
  private isReason(clause: number): boolean {
    if (this.length(clause) === 0) return false;
    const code = this.literal(clause, 0);
    return this.value[code] === 1 && this.reason[code >> 1] === clause;
  }

  /** Unit propagation from the negation of the clause must contradict itself. */
  private justify(clause: number): void {
    this.checked++;
    const before = this.assigned;
    let conflict = 0;
    for (let i = 0; i < this.length(clause) && !conflict; i++) {
      const code = this.literal(clause, i);
      if (this.value[code] === 1) conflict = this.reason[code >> 1]!;
      else if (this.value[code] === 0) this.assign(code ^ 1, 0);
    }
    conflict ||= this.propagate();
    if (!conflict)
      throw new Refused(`the clause ${this.literals(clause).join(" ")} does not follow by unit propagation`);
    this.markReasons(conflict);
    this.undoTo(before);
  }

  /** The lemmas that were justified, in the order of the proof. */
  justified(): number[][] {
    return this.log
      .filter((clause) => clause > 0 && this.matters(clause))
      .map((clause) => this.literals(clause));
  }
}

/**
 * Whether `proof` shows that `cnf` has no solution. Never throws on bad proofs: whatever is not a proof is refused with a reason.
 */
export function checkProof(cnf: Cnf, proof: Uint8Array, format: ProofFormat): Verdict {
  const checker = new Checker(cnf.variables);
  const verdict = (reason: string): Verdict => ({
    ok: reason === "",
    reason,
    lemmas: checker.lemmas,
    checked: checker.checked,
    trimmed: reason === "" ? writeBinary(checker.justified()) : new Uint8Array(),
  });
  try {
    if (checker.load(cnf) === 0) checker.check(steps(proof, format));
    return verdict("");
  } catch (error) {
    if (error instanceof Refused) return verdict(error.message);
    throw error;
  }
}
