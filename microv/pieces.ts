/** Words as sequences of pieces, and other small questions about the structure of a term that the simplifier asks. */

import { isConst, mask, type Term } from "./term.ts";

/** Constants with more runs of equal bits than this are not cut into pieces. */
const MOST_RUNS = 7;

export const isZero = (term: Term) => term.op === "const" && term.value === 0n;
export const isOnes = (term: Term) => term.op === "const" && term.value === mask(term.width);
export const arg = (term: Term, index: number) => term.args[index] as Term;

export function sameWidth(what: string, a: Term, b: Term): void {
  if (a.width !== b.width) throw new RangeError(`${what} of ${a.width} and ${b.width} bits`);
}

/** The lowest bit of each piece of `a`, most significant first: the parts of a concatenation, the runs of bits of a constant. */
export function lows(a: Term): number[] {
  if (a.op === "concat") {
    let position = a.width;
    return a.args.map((part) => {
      position -= part.width;
      return position;
    });
  }
  if (isConst(a)) {
    const result: number[] = [];
    for (let i = a.width - 1; i >= 0; i--) {
      const here = (a.value >> BigInt(i)) & 1n;
      if (i === 0 || ((a.value >> BigInt(i - 1)) & 1n) !== here) result.push(i);
    }
    if (result.length <= MOST_RUNS) return result;
  }
  return [0];
}

/** `[high, low]` of the pieces obtained by cutting wherever `a` or `b` has a cut. */
export function pieces(a: Term, b: Term): [number, number][] {
  let high = a.width - 1;
  return [...new Set([...lows(a), ...lows(b)])]
    .sort((x, y) => y - x)
    .map((low) => {
      const piece: [number, number] = [high, low];
      high = low - 1;
      return piece;
    });
}

/** Number of low bits that are zero whatever the variables are. */
export function lowZeros(a: Term): number {
  if (a.op === "concat") {
    let zeros = 0;
    for (let i = a.args.length - 1; i >= 0; i--) {
      const part = arg(a, i);
      const here = lowZeros(part);
      zeros += here;
      if (here < part.width) break;
    }
    return zeros;
  }
  if (a.op === "add") return Math.min(...a.args.map(lowZeros));
  if (!isConst(a)) return 0;
  let zeros = 0;
  while (zeros < a.width && ((a.value >> BigInt(zeros)) & 1n) === 0n) zeros++;
  return zeros;
}
