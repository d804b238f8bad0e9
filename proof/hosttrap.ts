/** Traps from the host: what it is given, and what it learns where it is given nothing. */
import {
  add,
  and,
  band,
  bor,
  bv,
  type Clause,
  type Contract,
  eq,
  extract,
  implies,
  ite,
  lshr,
  ne,
  not,
  or,
  shl,
  type Term,
  ult,
  zext,
} from "../microv/index.ts";
import { exceptionPstate, fromUser, isAArch32, pstateAfter, syncVector } from "./exception.ts";
import { hostKey, hostReg, isHostReg, setHostReg } from "./percpu.ts";
import { read } from "./state.ts";
import type { Core } from "./theory.ts";

const KERNEL_BIT = 55;
const CLASS_SHIFT = 26;
const IL = 1n << 25n;
const WNR = 1n << 6n;
const S1PTW_BIT = 7;
/** Fault status codes at level 3: translation fault, permission fault, external abort on a walk. */
const TRANSLATION = 0x07;
const PERMISSION = 0x0f;
const EXTERNAL_WALK = 0x17;
/** An address that Linux never maps. */
const UNMAPPED = 8;

/** Registers of the host that taking an exception changes. */
export const EXCEPTION_REGISTERS = [
  "esr_el1",
  "far_el1",
  "elr_el1",
  "spsr_el1",
  "elr_el2",
  "spsr_el2",
] as const;

export function hosttrapContracts({ m, registers }: Core): Contract[] {
  /** The host takes an exception with this syndrome and fault address (Arm ARM AArch64.TakeException). */
  const takesException = (c: Clause, syndrome: Term, far: Term) => {
    const get = (name: string) => registers.get(c.before, name);
    const pstate = get("spsr_el2");
    registers.set(c.state, "esr_el1", syndrome);
    registers.set(c.state, "far_el1", far);
    registers.set(c.state, "elr_el1", get("elr_el2"));
    registers.set(c.state, "spsr_el1", pstate);
    registers.set(c.state, "elr_el2", syncVector(get("vbar_el1"), pstate));
    registers.set(c.state, "spsr_el2", exceptionPstate(pstate, get("sctlr_el1")));
  };
  return [
    {
      // Five bits of an instruction.
      function: "hosttrap/field",
      parameters: ["instruction", "shift"],
      spec(c) {
        const [instruction, shift] = c.args as [Term, Term];
        c.require("the field lies in the instruction", ult(shift, bv(28, 32)));
        return band(lshr(instruction, shift), bv(31, 32));
      },
    },
    {
      // A register of the host becomes zero, but for the zero register.
      function: "hosttrap/loadZero",
      parameters: ["cpu", "n"],
      forms: { 0: () => m.area },
      spec(c) {
        const n = c.args[1] as Term;
        c.require("it is a register", ult(n, bv(32, 32)));
        setHostReg(c.state, m, extract(4, 0, n), bv(0, 64), ne(n, bv(31, 32)));
      },
    },
    {
      // The offset is added to a register of the host, unless that is the stack pointer.
      function: "hosttrap/writeBack",
      parameters: ["cpu", "n", "offset"],
      forms: { 0: () => m.area },
      spec(c) {
        const [, n, offset] = c.args as [Term, Term, Term];
        c.require("it is a register", ult(n, bv(32, 32)));
        const kept = ne(n, bv(31, 32));
        const index = extract(4, 0, n);
        setHostReg(c.state, m, index, add(hostReg(c.before, m, index), offset), kept);
        c.can("the base is a general register", kept);
        c.can("the base is the stack pointer", not(kept));
        return ite(kept, bv(1, 32), bv(0, 32));
      },
    },
    {
      // Carries out a load or store of one register as if memory were zero and read-only; only registers that the instruction names change.
      function: "hosttrap/emulateSingle",
      parameters: ["cpu", "instruction"],
      forms: { 0: () => m.area },
      spec(c) {
        const instruction = c.args[1] as Term;
        const [rt, rn] = [extract(4, 0, instruction), extract(9, 5, instruction)];
        c.havoc("linear", (key) => or(eq(key, hostKey(m, rt)), eq(key, hostKey(m, rn))));
        const isX = (n: Term) => ne(n, bv(31, 5));
        const [oldRt, newRt] = [hostReg(c.before, m, rt), hostReg(c.state, m, rt)];
        c.ensure("what is loaded is zero", or(eq(newRt, oldRt), eq(newRt, bv(0, 64)), eq(rt, rn)));
        c.ensure("the zero register is none", or(isX(rt), eq(newRt, oldRt)));
        c.ensure(
          "the stack pointer is kept",
          or(isX(rn), eq(hostReg(c.state, m, rn), hostReg(c.before, m, rn))),
        );
        const done = c.result(32);
        c.ensure("it says whether it was done", ult(done, bv(2, 32)));
        c.can("it is done", eq(done, bv(1, 32)));
        c.can("it is not done", eq(done, bv(0, 32)));
        return done;
      },
    },
    {
      // The host goes on behind the instruction that trapped.
      function: "hosttrap/skipInstruction",
      spec(c) {
        const pstate = registers.get(c.before, "spsr_el2");
        registers.set(c.state, "elr_el2", add(registers.get(c.before, "elr_el2"), bv(4, 64)));
        const after = c.choose("PSTATE", 64, (state) => registers.get(state, "spsr_el2"));
        c.ensure(
          "BTYPE and single step end",
          implies(not(isAArch32(pstate)), eq(after, pstateAfter(pstate))),
        );
        registers.set(c.state, "spsr_el2", after);
      },
    },
    {
      // Whether a context is user space.
      function: "hosttrap/fromUser",
      parameters: ["pstate"],
      spec: (c) => ite(fromUser(c.args[0] as Term), bv(1, 32), bv(0, 32)),
    },
    {
      // The host takes a synchronous exception.
      function: "hosttrap/inject",
      parameters: ["esr", "far"],
      spec(c) {
        const [syndrome, far] = c.args as [Term, Term];
        takesException(c, syndrome, far);
      },
    },
    {
      // An access of the host ends in an abort of the same class: a fault of the kernel's own where the kernel's address says so, else one at
      // an address that no mapping can have.
      function: "hosttrap/injectAbort",
      parameters: ["esr", "far"],
      spec(c) {
        const [esr, far] = c.args as [Term, Term];
        const user = fromUser(registers.get(c.before, "spsr_el2"));
        const kernelAddress = eq(extract(KERNEL_BIT, KERNEL_BIT, far), bv(1, 1));
        const walk = eq(extract(S1PTW_BIT, S1PTW_BIT, esr), bv(1, 1));
        const kind = zext(extract(31, CLASS_SHIFT, esr), 64);
        const same = ite(user, bv(0, 64), bv(1, 64));
        const status = ite(
          kernelAddress,
          ite(walk, bv(EXTERNAL_WALK, 64), bv(PERMISSION, 64)),
          bv(TRANSLATION, 64),
        );
        const fields = bor(bor(bv(IL, 64), band(esr, bv(WNR, 64))), status);
        const syndrome = bor(shl(add(kind, same), bv(CLASS_SHIFT, 64)), fields);
        takesException(c, syndrome, ite(kernelAddress, far, bv(UNMAPPED, 64)));
        c.can("user space is told", user);
        c.can("the kernel is told", and(not(user), kernelAddress));
      },
    },
  ];
}
