/**
 * The transitions of the system: what holds when the core is entered holds when it returns, with the host's context in the machine or a
 * guest's. Each export starts and ends with no lock held and no invalidation under way.
 */
import {
  and,
  bv,
  type Call,
  type Clause,
  type Contract,
  copyState,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  ne,
  not,
  or,
  type State,
  type Term,
  TRUE,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { coreWord, reset } from "./boot.ts";
import { fpIsLoaded, hasSve } from "./fpsimd.ts";
import { RESUME_GUEST, RESUME_HOST } from "./guesttrap.ts";
import { IL } from "./hosttrap.ts";
import {
  countsAgree,
  countsFit,
  invariantsOf,
  poolFits,
  poolHead,
  poolList,
  poolRank,
  structureOf,
  tablesFit,
  vcpuField,
  vcpuListed,
  vcpuRecord,
  vmList,
  vmRecord,
} from "./invariants.ts";
import { constants, fieldNames } from "./layout.ts";
import { vcpuIndex, vmIndex } from "./linear.ts";
import { heldPage, holdingNothing } from "./lock.ts";
import type { Registers } from "./machine.ts";
import { cpuField, cpuKey, cpuNumber, has, hostReg } from "./percpu.ts";
import { profileField, type Uses } from "./profile.ts";
import { vcpuAt } from "./records.ts";
import {
  coreFacts,
  cpu,
  ghost,
  holds,
  infoFacts,
  type Machine,
  type MemoryName,
  requireFpSynchronized,
  rewrite,
  Stale,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";
import { guestRuns, hostKeeps, hostRuns } from "./vcpu.ts";
import { vtcrFor } from "./vm.ts";

const kind = constants("guesttrap.ts", "Class", 6);
const exit = constants("vcpu.ts", "Exit", 32);

/** The vCPU whose guest runs when a guest traps. */
const running = variable("running", 10);

const LOCKS = ["vmsHeld", "rootHeld", "hostmapHeld", "s2pageHeld", "poolHeld", "psciHeld"] as const;

/** Leaves the whole state to the function: what it promises of it is all that is said. */
function anything(c: Clause): void {
  for (const name of Object.keys(c.before.memories)) c.havoc(name);
  for (const name of Object.keys(c.before.ghosts)) c.havocGhost(name);
}

/** Promises that no lock is held and no invalidation is under way. */
function nothingUnderWay(c: Clause): void {
  for (const name of LOCKS) c.ensure(`${name} is not so at the end`, not(ghost(c.state, name)));
  c.ensure("no TLB entry is stale", eq(ghost(c.state, "stale"), Stale.NO));
}

/** What is not exchanged: registers of EL2 while the host runs. */
function hostControls(state: State, m: Machine, registers: Registers): Term {
  const is = (name: string, value: Term) => eq(registers.get(state, name), value);
  return and(
    is("cptr_el2", cpuField(state, m, "hostCptr")),
    is("mdcr_el2", cpuField(state, m, "hostMdcr")),
    implies(has(state, m, "HCX"), is("hcrx_el2", cpuField(state, m, "hostHcrx"))),
    is("hstr_el2", bv(0, 64)),
    is("cnthctl_el2", bv(3, 64)),
    is("ich_hcr_el2", bv(0, 64)),
    is("vmpidr_el2", registers.get(state, "mpidr_el1")),
  );
}

/** A guest runs: its vCPU is held, and nothing else. */
function guestHeld(m: Machine): (state: State) => void {
  return (state) => {
    holdingNothing(state);
    write(state, "linear", cpuKey(m, "running"), zext(vcpuAt(m, running), 64));
    write(state, "vcpuHeld", running, bv(1, 1));
    write(state, "vmHeld", vmOfRunning(state, m), bv(1, 1));
    const now = copyState(state);
    rewrite(
      state,
      "accessible",
      (x) => heldPage(now, m, running, x),
      () => bv(1, 1),
    );
  };
}

const vmOfRunning = (state: State, m: Machine): Term => vmOf(state, m, running);
const vmOf = (state: State, m: Machine, index: Term): Term =>
  vmIndex(extract(31, 0, word(state, vcpuField(m, index, "vm"))));

/** Promises that, if a guest goes on, what holding its vCPU `index` means is so, and that else nothing is held. */
function nothingElseHeld(c: Clause, m: Machine, index: Term, goesOn: Term): void {
  const { state } = c;
  const slot = vmOf(state, m, index);
  c.ensure("its vCPU is held", implies(goesOn, holds(state, "vcpuHeld", index)));
  c.ensure("its VM stays", implies(goesOn, holds(state, "vmHeld", slot)));
  c.ensure("its vCPU exists", implies(goesOn, isVcpu(state, m, index)));
  c.ensureAll("no other vCPU is held", "vcpuHeld", (key, now) =>
    implies(holds(now, "vcpuHeld", key), and(goesOn, eq(key, index))),
  );
  c.ensureAll("no other VM is", "vmHeld", (key, now) =>
    implies(holds(now, "vmHeld", key), and(goesOn, eq(key, slot))),
  );
  c.ensureAll("what is held in place is what it needs", "accessible", (x, now) =>
    eq(holds(now, "accessible", x), and(goesOn, heldPage(now, m, index, x))),
  );
}

/** Whether vCPU record `index` and the record of its VM agree with what is, and the vCPU exists. */
const isVcpu = (state: State, m: Machine, index: Term): Term =>
  and(
    not(eq(word(state, vcpuField(m, index, "hva")), bv(0, 64))),
    vcpuRecord(state, m, index),
    vmRecord(state, m, vmOf(state, m, index)),
  );

/** What is assumed of what happens between the core's entries. */
export const TOP_AXIOMS = [
  {
    name: "reset",
    reason:
      "the core starts on one CPU while no other runs, with its linear memory as the image has it: zero but for what the boot tool wrote",
  },
  {
    name: "entries alternate",
    reason:
      "each export is entered as the one before it on this CPU returned, by the vectors that VBAR_EL2 names; what is in between, the host or a guest runs under the EL2 registers that were set, and cannot write them or memory that stage 2 denies it",
  },
  {
    name: "FP/SIMD traps are asked for",
    reason:
      "with CPTR_EL2.TFP (and TZ, where the guest has SVE) clear no access to FP/SIMD (SVE) registers is trapped to EL2, so they are loaded once an entry (Arm ARM D24.2.28)",
  },
] as const;

/** What the locks grant to who takes them, by entry: so it must be so at first. */
function granted(m: Machine): Record<string, { memory: MemoryName; at(state: State, key: Term): Term }> {
  return {
    "counts agree": {
      memory: "owner",
      at: (state, index) => and(countsAgree(state, m, index), countsFit(state, index)),
    },
    "free pages form a list": {
      memory: "rank",
      at: (state, table) => and(poolRank(state, m, table), poolList(state, table)),
    },
    "VM records agree": {
      memory: "alive",
      at: (state, slot) => and(vmRecord(state, m, slot), vmList(state, m, slot)),
    },
    "vCPU records agree": {
      memory: "vcpuHeld",
      at: (state, index) => and(vcpuRecord(state, m, index), vcpuListed(state, m, index)),
    },
  };
}

/** SPSR_EL2: EL1 with its own stack, D, A, I and F masked (Arm ARM C5.2.20). */
const EL1H_MASKED = 0x3c5;

/** Which function deals with which exceptions of the host's, by ESR_EL2.EC (Arm ARM D24.2.40): `inject` with all others. */
const HANDLED = {
  "hostcall/hostCall": [0x16],
  "psci/hostSmc": [0x17],
  "hosttrap/hostAbort": [0x20, 0x24],
} as const;

/** Bits of a physical address by ID_AA64MMFR0_EL1.PARange, where it is not 48 or more (Arm ARM D24.2.64). */
const PHYSICAL_BITS = [
  [0, 32],
  [1, 36],
  [2, 40],
  [4, 44],
] as const;

/** What is dealt with is what happened. */
function usesHandlers(registers: Registers): Uses {
  const isOf = (state: State, classes: readonly number[]) =>
    or(...classes.map((n) => eq(extract(31, 26, registers.get(state, "esr_el2")), bv(n, 6))));
  const handlers = Object.entries(HANDLED).map(([name, classes]) => [
    name,
    ({ state, oblige }: Call) => oblige("it is dealt with what happened", isOf(state, classes)),
  ]);
  return {
    ...Object.fromEntries(handlers),
    "hosttrap/inject": ({ state, args, oblige }) => {
      const [syndrome, far] = args as [Term, Term];
      oblige(
        "what the core does not know is undefined to the host",
        and(eq(syndrome, bv(IL, 64)), eq(far, bv(0, 64))),
      );
      oblige("it is what the core does not know", not(isOf(state, Object.values(HANDLED).flat())));
    },
  };
}

export function topContracts({ m, registers }: Core): Contract[] {
  /**
   * Whether the host starts on this CPU at `entry`, as an arm64 kernel does (Documentation/arch/arm64/booting.rst; PSCI's CPU_ON): at EL1
   * with interrupts masked, `context` in x0 and zeroes in the other registers.
   */
  const starts = (state: State, entry: Term, context: Term): Term =>
    and(
      eq(registers.get(state, "elr_el2"), entry),
      eq(registers.get(state, "spsr_el2"), bv(EL1H_MASKED, 64)),
      ...Array.from({ length: 31 }, (_, n) => eq(hostReg(state, m, n), n === 0 ? context : bv(0, 64))),
    );
  return [
    {
      // The machine has started: from here on holds what every proof takes for granted, and the host runs.
      function: "top/boot",
      founding: true,
      without: invariantsOf(m, registers).map(({ name }) => name),
      given: reset(m, registers),
      atReturn: (state) => {
        state.ghosts.booting = FALSE;
        state.ghosts.poolHeld = FALSE;
      },
      spec(c) {
        const { state } = c;
        c.require("it is the first CPU", eq(cpu, bv(0, 6)));
        anything(c);
        c.can("the core starts", TRUE);
        nothingUnderWay(c);
        nothingElseHeld(c, m, bv(0, 10), FALSE);
        const core = (name: string) => coreWord(state, m, name);
        const now: Machine = { ...m, core };
        for (const [n, fact] of infoFacts(m).entries()) c.ensure(`fact ${n} about the information`, fact);
        for (const [n, fact] of coreFacts(m, core).entries()) c.ensure(`fact ${n} about the core`, fact);
        for (const name of fieldNames.profile) c.ensure("the profile is good", profileField(m, name));
        c.ensure("the core has booted", not(eq(core("booted"), bv(0, 64))));
        const range = extract(3, 0, registers.get(c.before, "id_aa64mmfr0_el1"));
        const bits = core("hostIpaBits");
        const known = PHYSICAL_BITS.map(([code, width]) =>
          and(eq(range, bv(code, 4)), eq(bits, bv(width, 64))),
        );
        const wide = and(ult(bv(4, 4), range), eq(bits, bv(48, 64)));
        c.ensure("the host addresses what the CPU can", or(...known, wide));
        const most = ite(ult(bv(5, 4), range), bv(5, 3), extract(2, 0, range));
        c.ensure("the host's tables translate all of it", eq(core("hostVtcr"), vtcrFor(bits, most)));
        for (const [n, is] of [...known, wide].entries()) c.can(`a CPU of range ${n} starts`, is);
        c.ensure("the host's context is whole", hostRuns(state, now, registers));
        c.ensure("EL2 is as the host has it", hostControls(state, m, registers));
        c.ensure("the host starts", starts(state, m.info("hostEntry"), m.info("hostDtb")));
        const canForce = ne(extract(43, 40, registers.get(c.before, "id_aa64mmfr2_el1")), bv(0, 4));
        c.ensure(
          "stage 2 forces write-back where the CPU can",
          eq(coreWord(state, m, "forceWriteBack"), ite(canForce, bv(1, 64), bv(0, 64))),
        );
        for (const one of [...invariantsOf(now, registers), ...structureOf(now)])
          c.ensureAll(`at first: ${one.name}`, one.memory, (key, after) => one.at(after, key));
        for (const [name, one] of Object.entries(granted(now)))
          c.ensureAll(`at first: ${name}`, one.memory, (key, after) => one.at(after, key));
        c.ensure("at first: the pool's list is whole", and(poolHead(state, m), poolFits(state, m)));
        c.ensure("at first: the tables are as long as they say", tablesFit(state, m));
      },
    },
    {
      // A CPU has been started on the host's behalf, by the core that has booted: the host goes on there.
      function: "top/cpu_on",
      parameters: ["index"],
      forms: { 0: () => cpuNumber },
      given: holdingNothing,
      uses: {
        "lock/release": (one) =>
          one.oblige("the CPU may be started again", eq(cpuField(one.state, m, "bootPending"), bv(0, 64))),
      },
      spec(c) {
        anything(c);
        const { state } = c;
        nothingUnderWay(c);
        c.ensure("the core has booted", not(eq(m.core("booted"), bv(0, 64))));
        c.ensure("the host's context is whole", hostRuns(state, m, registers));
        c.ensure("EL2 is as the host has it", hostControls(state, m, registers));
        // As noted when the host asked for it: read under LOCK_PSCI.
        const [entry, context] = ["bootEntry", "bootContext"].map((name) =>
          c.choose(name, 64, (after) => cpuField(after, m, name)),
        ) as [Term, Term];
        c.ensure("the host starts where it asked", starts(state, entry, context));
        nothingElseHeld(c, m, bv(0, 10), FALSE);
        c.can("it returns", TRUE);
      },
    },
    {
      // The host trapped: it goes on, or a guest does whose vCPU is held from now on.
      function: "top/host_trap",
      parameters: ["index"],
      forms: { 0: () => cpuNumber },
      given: holdingNothing,
      uses: usesHandlers(registers),
      spec(c) {
        const { before, state } = c;
        c.require("the host runs", hostRuns(before, m, registers));
        c.require("EL2 is as the host has it", hostControls(before, m, registers));
        anything(c);
        const result = c.result(32);
        const back = eq(result, RESUME_HOST);
        c.ensure("it says who goes on", ule(result, RESUME_GUEST));
        c.can("a guest goes on", not(back));
        c.can("the host goes on", back);
        nothingUnderWay(c);
        const vcpu = extract(31, 0, cpuField(state, m, "running"));
        const index = vcpuIndex(vcpu);
        c.ensure("the host's context is whole", implies(back, hostRuns(state, m, registers)));
        c.ensure("EL2 is as the host has it", implies(back, hostControls(state, m, registers)));
        nothingElseHeld(c, m, index, not(back));
        hostKeeps(c, m, registers, vcpuAt(m, index), { before: FALSE, after: TRUE }, not(back));
        c.ensure(
          "the guest's context is whole",
          implies(not(back), guestRuns(state, m, registers, vcpuAt(m, index))),
        );
        return result;
      },
    },
    {
      // An exception from the core itself is the end.
      function: "top/core_trap",
      parameters: ["index", "vector"],
      forms: { 0: () => cpuNumber },
      spec: (c) => c.diverges(),
    },
    {
      // A guest trapped, or was interrupted: it goes on, or the host does.
      function: "top/guest_trap",
      parameters: ["index", "code"],
      forms: { 0: () => cpuNumber },
      given: guestHeld(m),
      spec(c) {
        const code = c.args[1] as Term;
        const { before, state } = c;
        const vcpu = vcpuAt(m, running);
        c.require(
          "the vectors say why",
          or(...["IRQ", "SERROR", "TRAP"].map((name) => eq(code, exit(name)))),
        );
        c.require("the guest runs", guestRuns(before, m, registers, vcpu));
        c.require("its vCPU exists", isVcpu(before, m, running));
        requireFpSynchronized(c);
        // While they are loaded CPTR_EL2.TFP is clear, and no access to them is trapped to EL2.
        const usesFp = eq(extract(31, 26, registers.get(before, "esr_el2")), kind("FP_ASIMD"));
        const usesSve = eq(extract(31, 26, registers.get(before, "esr_el2")), kind("SVE"));
        c.require(
          "FP/SIMD registers trap only while they are not loaded",
          implies(and(eq(code, exit("TRAP")), or(usesFp, usesSve), fpIsLoaded(before, m)), usesSve),
        );
        c.require(
          "SVE registers of a guest that has them trap only while they are not loaded",
          implies(and(usesSve, hasSve(before, m, vcpu)), not(fpIsLoaded(before, m))),
        );
        anything(c);
        const result = c.result(32);
        const back = eq(result, RESUME_HOST);
        c.ensure("it says who goes on", ule(result, RESUME_GUEST));
        c.can("the guest goes on", not(back));
        c.can("the host goes on", back);
        nothingUnderWay(c);
        c.ensure("the host's context is whole", implies(back, hostRuns(state, m, registers)));
        c.ensure("EL2 is as the host has it", implies(back, hostControls(state, m, registers)));
        c.ensure("the guest's context is whole", implies(not(back), guestRuns(state, m, registers, vcpu)));
        nothingElseHeld(c, m, running, not(back));
        hostKeeps(c, m, registers, vcpu, { before: TRUE, after: not(back) });
        for (let n = 2; n < 31; n++)
          c.ensure("and x2 to x30, too", eq(hostReg(state, m, n), hostReg(before, m, n)));
        return result;
      },
    },
  ];
}
