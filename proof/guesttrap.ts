/** Traps from a guest: what it is given, and what the host is told. */
import {
  bv,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  ite,
  type Term,
  ult,
  zext,
} from "../microv/index.ts";
import { constants } from "./layout.ts";
import { vcpuIndex } from "./linear.ts";
import { letGo } from "./lock.ts";
import { setHostReg, thisCpu } from "./percpu.ts";
import { contextOf, requireVcpu, usesContext } from "./profile.ts";
import { vcpuForm } from "./records.ts";
import type { Core } from "./theory.ts";
import { leaveGuest, requireSve } from "./vcpu.ts";

const kind = constants("guesttrap.ts", "Class", 6);
const fill = constants("memory.ts", "Fill", 32);

export const RESUME_HOST = bv(0, 32);
export const RESUME_GUEST = bv(1, 32);

/** ESR_ELx.EC: what happened. */
export const classOf = (esr: Term): Term => zext(extract(31, 26, esr), 64);

/** The syndrome of a write by the access that `esr` tells of (Arm ARM D24.2.40): a data abort of a lower level, not described further. */
const ofWrite = (esr: Term): Term =>
  concat(
    extract(63, 32, esr),
    kind("DATA_ABORT_LOWER"),
    extract(25, 25, esr),
    bv(0, 1), // ISV
    extract(23, 7, esr),
    bv(1, 1), // WnR
    extract(5, 0, esr),
  );
/** The syndrome of a permission fault at `level` by that access. */
const ofPermission = (esr: Term, level: Term): Term => concat(extract(63, 6, esr), bv(0b0011, 4), level);

/** What the host is told of a fault that ended as `status`, one of `Fill`. */
export function syndromeFor(status: Term, esr: Term): Term {
  const denied = eq(extract(2, 2, status), bv(1, 1));
  const refused = ite(denied, ofPermission(esr, extract(4, 3, status)), esr);
  return ite(eq(status, fill("READ_ONLY")), ofWrite(esr), refused);
}

export function guesttrapContracts({ m, registers }: Core): Contract[] {
  return [
    {
      // The exception class of a syndrome.
      function: "guesttrap/classOf",
      parameters: ["esr"],
      spec: (c) => classOf(c.args[0] as Term),
    },
    {
      // What the host's own tables would have led to.
      function: "guesttrap/syndromeFor",
      parameters: ["status", "esr"],
      spec(c) {
        const [status, esr] = c.args as [Term, Term];
        const result = c.result(64);
        c.ensure(
          "it is the syndrome of what was refused",
          implies(ult(status, bv(32, 32)), eq(result, syndromeFor(status, esr))),
        );
        return result;
      },
    },
    {
      // Tells the host of a fault, in the vCPU's context.
      function: "guesttrap/reportFault",
      parameters: ["vcpu", "esr", "far", "hpfar"],
      forms: { 0: vcpuForm(m) },
      uses: usesContext(m, (state, [vcpu]) => contextOf(state, m, vcpu as Term)),
      spec: (c) => void requireVcpu(c, m, c.args[0] as Term),
    },
    {
      // Leaves the guest, lets go of its vCPU, and answers the host's call.
      function: "guesttrap/exitToHost",
      parameters: ["cpu", "vcpu", "code"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      spec(c) {
        const [, vcpu, code] = c.args as [Term, Term, Term];
        requireVcpu(c, m, vcpu);
        requireSve(c, m, vcpu);
        const result = leaveGuest(c.state, m, registers, vcpu, code);
        letGo(c.state, m, vcpuIndex(vcpu));
        setHostReg(c.state, m, 0, bv(0, 64));
        setHostReg(c.state, m, 1, result);
        return RESUME_HOST;
      },
    },
  ];
}
