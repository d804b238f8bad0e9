/** Traps from a guest: what it is given, and what the host is told. */
import {
  and,
  bv,
  type Clause,
  type Contract,
  concat,
  copyState,
  eq,
  extract,
  implies,
  ite,
  Memory,
  ne,
  not,
  ofBool,
  or,
  type State,
  type Term,
  ult,
  zext,
} from "../microv/index.ts";
import { tells, wasWalked, writes } from "./dialogue.ts";
import { guestFpLoaded, hasSve, usesFpPlaces } from "./fpsimd.ts";
import { LISTS, vcpuField } from "./invariants.ts";
import { constants } from "./layout.ts";
import { requireKvm } from "./lend.ts";
import { vcpuIndex, vmIndex } from "./linear.ts";
import { letGo, lockFree, requireFree } from "./lock.ts";
import type { Registers } from "./machine.ts";
import { hostReg, setHostReg, thisCpu } from "./percpu.ts";
import { contextOf, fieldsAt, requireVcpu, together, type Uses, usesContext } from "./profile.ts";
import { vcpuForm } from "./records.ts";
import {
  isAligned,
  isPhysical,
  type Machine,
  nothingStale,
  page,
  read,
  requireFpSynchronized,
  requireNothingStale,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";
import { cptrWithFp, leaveGuest, requireSve, usesVcpu } from "./vcpu.ts";

const kind = constants("guesttrap.ts", "Class", 6);
const fill = constants("memory.ts", "Fill", 32);
const exit = constants("vcpu.ts", "Exit", 64);

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

/** Types of faults, as FSC[5:2]. */
const TRANSLATION = bv(1, 4);
const PERMISSION = bv(3, 4);
const typeOf = (esr: Term): Term => extract(5, 2, esr);
const onWalk = (esr: Term): Term => eq(extract(7, 7, esr), bv(1, 1));

/** What `fill` is told of the access with this syndrome: that it is one, whether it is a write, and whether it is a fetch. 64 bits. */
function faultKind(esr: Term): Term {
  const isFetch = eq(extract(31, 26, esr), kind("INSTRUCTION_ABORT_LOWER"));
  const isMaintenance = eq(extract(8, 8, esr), bv(1, 1));
  const stores = and(eq(extract(6, 6, esr), bv(1, 1)), not(isMaintenance));
  // A table walk that is not permitted is one that would have set a flag in the table.
  const writes = and(not(isFetch), ite(onWalk(esr), eq(typeOf(esr), PERMISSION), stores));
  return zext(concat(ofBool(and(isFetch, not(onWalk(esr))), 1), ofBool(writes, 1), bv(1, 1)), 64);
}

/** The address that HPFAR_EL2 says, of a page (Arm ARM D24.2.63). 64 bits. */
export const faultIpa = (hpfar: Term): Term => concat(extract(55, 4, hpfar), bv(0, 12));

/** Whether HPFAR_EL2 has the address of the fault (Arm ARM D24.2.63). */
const hpfarValid = (esr: Term): Term => or(onWalk(esr), ne(typeOf(esr), PERMISSION));

/** Whether `ipa` is where the guest's access went: what HPFAR_EL2 says, or where that does not, what the guest's stage 1 does. */
function isFaultAddress(state: State, registers: Registers, ipa: Term): Term {
  const [esr, far, hpfar] = ["esr_el2", "far_el2", "hpfar_el2"].map((name) => registers.get(state, name)) as [
    Term,
    Term,
    Term,
  ];
  return and(
    isAligned(ipa, 12),
    ite(hpfarValid(esr), eq(ipa, faultIpa(hpfar)), and(isPhysical(ipa), wasWalked(state, far, page(ipa)))),
  );
}

/** What a guest's abort asks of the core, as it is told to the host or to `fill`. */
function usesFault(m: Machine, registers: Registers): Uses {
  const esrOf = (state: State) => registers.get(state, "esr_el2");
  const field = (state: State, vcpu: Term, name: string) => word(state, vcpuField(m, vcpuIndex(vcpu), name));
  return {
    "memory/fill": (call, [, vcpu]) => {
      const [vm, ipa, fault] = call.args as [Term, Term, Term];
      const { state } = call;
      call.oblige("it is the guest's VM", eq(zext(vm, 64), field(state, vcpu as Term, "vm")));
      call.oblige("it is where the guest's access went", isFaultAddress(state, registers, ipa));
      call.oblige("it is that access", eq(fault, faultKind(esrOf(state))));
      call.oblige(
        "the host does not emulate a device there",
        ne(ipa, field(state, vcpu as Term, "mmioPage")),
      );
    },
    "guesttrap/syndromeFor": (call) =>
      call.oblige("the host is told of this access", eq(call.args[1] as Term, esrOf(call.state))),
    "guesttrap/reportFault": (call) => {
      const [, , far, hpfar] = call.args as [Term, Term, Term, Term];
      const { state } = call;
      call.oblige("it is told the virtual address", eq(far, registers.get(state, "far_el2")));
      call.oblige("it is told the address", isFaultAddress(state, registers, faultIpa(hpfar)));
    },
  };
}

/** Slot of the VM of the vCPU whose record is at `vcpu`. */
const vmOf = (state: State, m: Machine, vcpu: Term): Term =>
  vmIndex(extract(31, 0, word(state, vcpuField(m, vcpuIndex(vcpu), "vm"))));

function guestSync(c: Clause, m: Machine, registers: Registers): Term {
  const vcpu = c.args[1] as Term;
  const { before, state } = c;
  requireVcpu(c, m, vcpu);
  requireSve(c, m, vcpu);
  requireKvm(c, m, vmOf(before, m, vcpu));
  requireNothingStale(c);
  requireFree(c, "rootHeld");
  requireFpSynchronized(c);
  const is = (...names: readonly string[]) =>
    or(...names.map((name) => eq(extract(31, 26, registers.get(before, "esr_el2")), kind(name))));
  const sve = hasSve(before, m, vcpu);
  const usesFp = or(is("FP_ASIMD"), and(is("SVE"), sve));
  const isAbort = is("DATA_ABORT_LOWER", "INSTRUCTION_ABORT_LOWER");
  const result = c.result(32);
  const leaves = eq(result, RESUME_HOST);
  c.ensure("it says who goes on", or(leaves, eq(result, RESUME_GUEST)));
  c.ensure("a guest that uses FP/SIMD goes on", implies(usesFp, not(leaves)));
  c.ensure("what is neither that nor an abort is the host's", implies(not(or(usesFp, isAbort)), leaves));
  c.can("a guest is given its FP/SIMD registers", usesFp);
  c.can("a guest goes on after an abort", and(isAbort, not(leaves)));
  c.can("the host is asked about an abort", and(isAbort, leaves));
  c.can("the host is asked about something else", and(not(isAbort), leaves));

  registers.set(state, "cptr_el2", cptrWithFp(sve), usesFp);
  guestFpLoaded(c, m, registers, vcpu, usesFp);
  for (const name of ["root", "unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
  c.havoc("mapped", (key) => eq(extract(43, 36, key), vmOf(before, m, vcpu)));
  const esr = registers.get(before, "esr_el2");
  const faultKey = extract(31, 3, vcpuField(m, vcpuIndex(vcpu), "fault"));
  const isMissing = and(isAbort, or(eq(typeOf(esr), TRANSLATION), eq(typeOf(esr), PERMISSION)));
  const noted = c.choose("fault", 64, (after) => read(after, "linear", faultKey));
  const code = c.choose("exit code", 64, (after) => zext(extract(1, 0, hostReg(after, m, 1)), 64));
  c.ensure(
    "the host is told that the guest trapped, or that it cannot go on",
    implies(leaves, or(eq(code, exit("TRAP")), and(isAbort, eq(code, exit("ILLEGAL"))))),
  );
  const isTold = and(leaves, eq(code, exit("TRAP")));
  write(state, "linear", faultKey, noted, and(isMissing, isTold));
  const ipa = concat(extract(63, 12, noted), bv(0, 12));
  c.ensure(
    "the fault that the host is to resolve is noted",
    implies(and(isMissing, isTold, hpfarValid(esr)), eq(ipa, faultIpa(registers.get(before, "hpfar_el2")))),
  );
  c.ensure(
    "with the kind of access",
    implies(and(isMissing, isTold), eq(zext(extract(11, 0, noted), 64), faultKind(esr))),
  );
  const at = fieldsAt(m, contextOf(before, m, vcpu));
  writes(c, at("faultEsrEl2"), esr, and(isTold, not(isMissing)));
  writes(c, at("faultFarEl2"), registers.get(before, "far_el2"), and(isTold, isAbort));
  writes(c, at("faultHpfarEl2"), registers.get(before, "hpfar_el2"), and(isTold, isAbort, hpfarValid(esr)));
  const left = copyState(state);
  answerHost(left, m, registers, vcpu, code);
  for (const [name, memory] of Object.entries(left.memories))
    state.memories[name] = Memory.ite(leaves, memory, state.memories[name] as Memory);
  return result;
}

/** The guest is left, its vCPU is no longer held, and the host's call is answered. */
function answerHost(state: State, m: Machine, registers: Registers, vcpu: Term, code: Term): void {
  const result = leaveGuest(state, m, registers, vcpu, code);
  letGo(state, m, vcpuIndex(vcpu));
  setHostReg(state, m, 0, bv(0, 64));
  setHostReg(state, m, 1, result);
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
      spec(c) {
        const [vcpu, ...values] = c.args as [Term, Term, Term, Term];
        const context = requireVcpu(c, m, vcpu);
        const at = fieldsAt(m, context);
        for (const [n, name] of ["faultEsrEl2", "faultFarEl2", "faultHpfarEl2"].entries())
          tells(c.state, at(name), values[n] as Term);
      },
    },
    {
      // A synchronous exception of the guest: it goes on with its FP/SIMD registers or a page more, or the host is asked.
      function: "guesttrap/guestSync",
      without: LISTS,
      parameters: ["cpu", "vcpu"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      given: (state) => {
        nothingStale(state);
        lockFree("rootHeld")(state);
      },
      uses: together(
        usesVcpu(m, registers, ([, vcpu]) => vcpu as Term),
        usesFpPlaces(m, ([, vcpu]) => vcpu as Term),
        usesFault(m, registers),
      ),
      spec: (c) => guestSync(c, m, registers),
    },
    {
      // Leaves the guest, lets go of its vCPU, and answers the host's call.
      function: "guesttrap/exitToHost",
      without: LISTS,
      parameters: ["cpu", "vcpu", "code"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      uses: {
        "trace/traceExit": ({ state, args, oblige }, [, vcpu]) => {
          const hva = word(state, vcpuField(m, vcpuIndex(vcpu as Term), "hva"));
          const values = [hva, state.locals[2] as Term, registers.get(state, "esr_el2")];
          oblige(
            "the event says which vCPU, why, and the syndrome",
            and(...values.map((value, n) => eq(args[n + 2] as Term, value))),
          );
        },
      },
      spec(c) {
        const [, vcpu, code] = c.args as [Term, Term, Term];
        requireVcpu(c, m, vcpu);
        requireSve(c, m, vcpu);
        requireFpSynchronized(c);
        answerHost(c.state, m, registers, vcpu, code);
        return RESUME_HOST;
      },
    },
  ];
}
