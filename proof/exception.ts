/** Exceptions that EL1 takes, by the Arm ARM (AArch64.TakeException), and what a skipped instruction does to PSTATE. */
import { add, band, bor, bv, eq, extract, ite, type Term } from "../microv/index.ts";

const mode = (pstate: Term) => extract(4, 0, pstate);
/** PSTATE.nRW: the context is AArch32. */
export const isAArch32 = (pstate: Term): Term => eq(extract(4, 4, pstate), bv(1, 1));

/** NZCV, DIT and PAN outlive an exception. */
const KEPT = (0xfn << 28n) | (1n << 24n) | (1n << 22n);
/** DAIF are set, and EL1 runs on its own stack pointer. */
const ENTERED = (0xfn << 6n) | 5n;
const PAN = 1n << 22n;
const SSBS = 1n << 12n;

/** PSTATE of EL1 when it takes an exception from a context with `pstate` under SCTLR_EL1 `sctlr`. */
export function exceptionPstate(pstate: Term, sctlr: Term): Term {
  const span = eq(extract(23, 23, sctlr), bv(0, 1));
  const dssbs = eq(extract(44, 44, sctlr), bv(1, 1));
  const base = bor(band(pstate, bv(KEPT, 64)), bv(ENTERED, 64));
  return bor(bor(base, ite(span, bv(PAN, 64), bv(0, 64))), ite(dssbs, bv(SSBS, 64), bv(0, 64)));
}

/** Where the vectors at `vbar` take a synchronous exception from a context with `pstate`. */
export function syncVector(vbar: Term, pstate: Term): Term {
  const offset = ite(
    eq(mode(pstate), bv(5, 5)),
    bv(0x200, 64),
    ite(eq(mode(pstate), bv(4, 5)), bv(0, 64), ite(isAArch32(pstate), bv(0x600, 64), bv(0x400, 64))),
  );
  return add(vbar, offset);
}

/** PSTATE of an AArch64 context after an instruction was skipped: BTYPE and SS are clear. */
export const pstateAfter = (pstate: Term): Term =>
  band(pstate, bv(~((3n << 10n) | (1n << 21n)) & ((1n << 64n) - 1n), 64));

/** Whether a context is user space, in either state. */
export const fromUser = (pstate: Term): Term => eq(extract(3, 0, pstate), bv(0, 4));
