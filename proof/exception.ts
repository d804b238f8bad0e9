/** Entering and leaving exceptions, as the Arm ARM defines it (AArch64.TakeException, AArch64.ExceptionReturn, AArch32.ITAdvance). */
import {
  add,
  and,
  bnot,
  bv,
  type Contract,
  concat,
  eq,
  extract,
  ite,
  or,
  type Term,
} from "../microv/index.ts";

const EL1H = bv(5, 5);
const EL1T = bv(4, 5);
/** PSTATE.nRW: the context is AArch32. */
export const isAArch32 = (pstate: Term): Term => eq(extract(4, 4, pstate), bv(1, 1));

/** Whether a context is user space, in either state. */
export const fromUser = (pstate: Term): Term => eq(extract(3, 0, pstate), bv(0, 4));

const one = (bit: number, word: Term) => extract(bit, bit, word);
const zeros = (bits: number) => bv(0, bits);

/** Where VBAR_EL1 `vbar` takes a synchronous exception from PSTATE `pstate`; reserved modes count as a lower level. */
export function syncVector(vbar: Term, pstate: Term): Term {
  const mode = extract(4, 0, pstate);
  const offset = (n: number) => bv(n, 64);
  const lower = ite(isAArch32(pstate), offset(0x600), offset(0x400));
  return add(vbar, ite(eq(mode, EL1H), offset(0x200), ite(eq(mode, EL1T), offset(0), lower)));
}

/** PSTATE after an exception to EL1 from `pstate` under SCTLR_EL1 `sctlr`, by field from bit 63 down. */
export function exceptionPstate(pstate: Term, sctlr: Term): Term {
  const [nzcv, dit, pan] = [extract(31, 28, pstate), one(24, pstate), one(22, pstate)];
  const [span, dssbs] = [one(23, sctlr), one(44, sctlr)];
  const newPan = ite(or(eq(pan, bv(1, 1)), eq(span, bv(0, 1))), bv(1, 1), bv(0, 1));
  const daif = bnot(zeros(4));
  return concat(
    zeros(32),
    nzcv,
    zeros(3), // TCO (the core offers no MTE), Q and IT, J
    dit,
    zeros(1), // UAO
    newPan,
    zeros(2), // SS, IL
    zeros(7), // ALLINT and what is reserved
    dssbs,
    zeros(2), // BTYPE
    daif,
    zeros(1), // T
    EL1H,
  );
}

/** PSTATE behind an instruction that was skipped. */
export function pstateAfter(pstate: Term): Term {
  const a64 = concat(
    extract(63, 22, pstate),
    zeros(1), // SS
    extract(20, 12, pstate),
    zeros(2), // BTYPE
    extract(9, 0, pstate),
  );
  const it = concat(extract(15, 10, pstate), extract(26, 25, pstate));
  const next = ite(
    eq(extract(2, 0, it), zeros(3)),
    zeros(8),
    concat(extract(7, 5, it), extract(3, 0, it), zeros(1)),
  );
  const a32 = concat(
    extract(63, 27, pstate),
    extract(1, 0, next),
    extract(24, 22, pstate),
    zeros(1), // SS
    extract(20, 16, pstate),
    extract(7, 2, next),
    extract(9, 0, pstate),
  );
  return ite(isAArch32(pstate), a32, a64);
}

/** Where an instruction that was skipped, reported with `esr`, ends. */
export function pcAfter(pc: Term, pstate: Term, esr: Term): Term {
  const isThumb = and(isAArch32(pstate), eq(one(5, pstate), bv(1, 1)));
  const short = and(isThumb, eq(one(25, esr), bv(0, 1)));
  return add(pc, ite(short, bv(2, 64), bv(4, 64)));
}

export function exceptionContracts(): Contract[] {
  return [
    {
      // Where EL1 takes a synchronous exception.
      function: "exception/syncVector",
      parameters: ["vbar", "pstate"],
      spec: ({ args: [vbar, pstate] }) => syncVector(vbar as Term, pstate as Term),
    },
    {
      // With which PSTATE it does.
      function: "exception/exceptionPstate",
      parameters: ["pstate", "sctlr"],
      spec: ({ args: [pstate, sctlr] }) => exceptionPstate(pstate as Term, sctlr as Term),
    },
    {
      // Where an instruction was carried out for it.
      function: "exception/pstateAfter",
      parameters: ["pstate"],
      spec: ({ args: [pstate] }) => pstateAfter(pstate as Term),
    },
  ];
}
