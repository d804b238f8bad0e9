/**
 * The world switch: what an entry changes, and what an exit reveals.
 *
 * An entry gives a guest registers that its host chose, where that concerns the guest alone, and EL2 registers that say what every guest is
 * denied. An exit brings back each register that host and guests share, as it was before the entry, and EL2 registers of the host; the
 * guest's go to its own context, which the host holds in place for it, and nowhere else.
 */
import {
  add,
  and,
  band,
  bnot,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  ite,
  ne,
  not,
  or,
  type State,
  type Term,
  TRUE,
  ule,
  zext,
} from "../microv/index.ts";
import { type Bits, fieldsIn, maskOf } from "./bits.ts";
import { debugIsLoaded, debugRegisters, hostDebugLoaded, hostDebugSaved, isGuestDebug } from "./debug.ts";
import { apart, heard, hears, loads, reads, writes } from "./dialogue.ts";
import {
  bringBack,
  guestEl1Loaded,
  hostEl1Loaded,
  hostEl1Saved,
  placeOf,
  putAway,
  sharedEl1,
} from "./el1.ts";
import { exceptionPstate, pcAfter, pstateAfter, syncVector } from "./exception.ts";
import { fpIsLoaded, fpOfHost, guestFpSaved, hasSve, hostFpLoaded } from "./fpsimd.ts";
import { sveBytes, vcpuField } from "./invariants.ts";
import { vcpuIndex } from "./linear.ts";
import { type Registers, SVE_STATUS_BYTES, sveBytesNow, sveMiddles, vttbrOf } from "./machine.ts";
import { hostKeysLoaded, hostKeysSaved, KEYS, keyPlace } from "./pauth.ts";
import { cpuField, cpuKey, fieldOf, guestReg, has, isGuestReg, knowsNumber, thisCpu } from "./percpu.ts";
import {
  contextOf,
  fieldsAt,
  requireContext,
  requireInPlace,
  requireVcpu,
  together,
  type Uses,
  useInPlace,
  usesContext,
} from "./profile.ts";
import { vcpuForm } from "./records.ts";
import {
  ghost,
  HOST_ROOT,
  type Machine,
  read,
  requireFpSynchronized,
  setGhost,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";
import { enterVgic, hostSre, leaveVgic, VGIC_ENTRY } from "./vgic.ts";

/** Bit of an exit code that says that the exit also consumed an SError. */
const WITH_SERROR = bv(1n << 31n, 64);

// ------------------------------------------------------------------------------------------- registers of EL2, by field (Arm ARM D24.2)

const HCR: Bits = {
  VM: 0,
  SWIO: 1,
  PTW: 2,
  FMO: 3,
  IMO: 4,
  AMO: 5,
  VF: 6,
  VI: 7,
  VSE: 8,
  FB: 9,
  BSU_INNER: 10,
  DC: 12,
  TWI: 13,
  TWE: 14,
  TID0: 15,
  TID1: 16,
  TID2: 17,
  TID3: 18,
  TSC: 19,
  TIDCP: 20,
  TACR: 21,
  TSW: 22,
  TPCP: 23,
  TPU: 24,
  TTLB: 25,
  TVM: 26,
  TGE: 27,
  TDZ: 28,
  HCD: 29,
  TRVM: 30,
  RW: 31,
  TLOR: 35,
  TERR: 36,
  TEA: 37,
  APK: 40,
  API: 41,
  AT: 44,
  FWB: 46,
  TID4: 49,
  TICAB: 50,
  TOCU: 52,
  TTLBIS: 54,
  TTLBOS: 55,
  ATA: 56,
  TID5: 58,
};
/** Whose effect ends with the guest: what the host may choose. */
const HCR_CHOICE = fieldsIn(
  HCR,
  ...["PTW", "VF", "VI", "VSE", "TWI", "TWE", "TID0", "TID1", "TID3", "TPCP", "TPU", "TTLB", "TVM", "TDZ"],
  ...["TRVM", "TEA", "APK", "API", "AT", "TID4", "TICAB", "TOCU", "TTLBIS", "TTLBOS", "TID5"],
);
/**
 * What every guest has: stage 2, its interrupts and SErrors taken to EL2, firmware calls trapped, AArch64; maintenance that holds on every CPU;
 * set/way operations, and what the core does not keep apart, trapped.
 */
const HCR_GUEST = fieldsIn(
  HCR,
  ...["VM", "FMO", "IMO", "AMO", "TSC", "RW", "SWIO", "FB", "BSU_INNER", "TSW"],
  ...["TID2", "TIDCP", "TACR", "TLOR", "TERR"],
);
const HCR_HOST = fieldsIn(HCR, "VM", "TSC", "RW", "APK", "API", "ATA");

const MDCR: Bits = {
  HPMN: [0, 4],
  TPMCR: 5,
  TPM: 6,
  TDE: 8,
  TDA: 9,
  TDOSA: 10,
  TDRA: 11,
  TPMS: 14,
  TTRF: 19,
  TDCC: 27,
};
/** No profiling, no trace, no debug ROM, no OS lock for guests. */
const MDCR_GUEST = fieldsIn(MDCR, "TPMS", "TTRF", "TDRA", "TDOSA");
const MDCR_TDA = fieldsIn(MDCR, "TDA");

/** HCRX_EL2 that a guest may have. */
const HCRX_CHOICE: Bits = { MSCEn: 11, TCR2En: 14 };

/** Flags of struct kvm_vcpu: what the host's emulation left to do, and whether its guest has debug registers of its own. */
const IFLAGS = {
  PENDING_EXCEPTION: 0,
  INCREMENT_PC: 1,
  EXCEPT: [1, 3],
  DEBUG_DIRTY: 4,
} as const satisfies Bits;

/** CPTR_EL2 of a guest that has not used FP/SIMD since its entry. */
const CPTR: Bits = { RES1: [0, 7], TZ: 8, RES1_9: 9, TFP: 10, TSM: 12, RES1_13: 13, TTA: 20, TAM: 30 };
const CNTHCTL: Bits = { EL1PCTEN: 0, EL1PCEN: 1 };
const HSTR: Bits = { T15: 15 };
/** PMUSERENR_EL0 by which all accesses from EL0 trap to EL2 rather than EL1. */
const PMUSERENR: Bits = { EN: 0, SW: 1, CR: 2, ER: 3 };
const BUFFER_ENABLED = 0;

const mask = (bits: Bits): Term => bv(maskOf(bits), 64);
const without = (value: Term, bits: Bits): Term => band(value, bnot(mask(bits)));
const isZero = (value: Term): Term => eq(value, bv(0, value.width));

/** CPTR_EL2 of a guest that uses FP/SIMD: no trap of it, nor of SVE if it has that. */
export function cptrWithFp(sve: Term): Term {
  const { TFP, TZ, ...rest } = CPTR;
  return ite(sve, mask(rest), mask({ ...rest, TZ: TZ as number }));
}

/** Whether HCR_EL2 is a guest's: what it must be, and beyond that what its host may choose, and what its vCPU adds. */
function isGuestHcr(state: State, m: Machine, vcpu: Term, hcr: Term): Term {
  const added = word(state, vcpuField(m, vcpuIndex(vcpu), "hcr"));
  const fwb = HCR.FWB as number;
  const must = bor(mask(HCR_GUEST), added);
  return and(
    eq(band(hcr, must), must),
    eq(extract(fwb, fwb, hcr), extract(0, 0, m.core("forceWriteBack"))),
    isZero(without(band(hcr, bnot(must)), { ...HCR_CHOICE, FWB: fwb })),
  );
}

/** Whether a guest with this HCR_EL2 has keys of its own in the machine. */
export const usesKeys = (state: State, m: Machine, hcr: Term): Term =>
  and(has(state, m, "PAUTH"), ne(extract(HCR.API as number, HCR.APK as number, hcr), bv(0, 2)));

/** Whether an exception return with SPSR_EL2 `pstate` leads to EL0 or EL1, in a state that this CPU has. */
function isGuestPstate(state: State, m: Machine, pstate: Term): Term {
  const mode = extract(4, 0, pstate);
  const a64 = or(...[0, 4, 5].map((n) => eq(mode, bv(n, 5))));
  return or(a64, and(eq(mode, bv(0x10, 5)), has(state, m, "A32_EL0")));
}

// -------------------------------------------------------------------------------------------------------------------- whose context it is

/** Whether the CPU can run a vCPU as it is: with SVE where that has it, and not in SME's streaming mode. */
function suits(state: State, m: Machine, registers: Registers, vcpu: Term): Term {
  const sveVq = word(state, vcpuField(m, vcpuIndex(vcpu), "sveVq"));
  return and(
    implies(not(isZero(sveVq)), has(state, m, "SVE")),
    implies(has(state, m, "SME"), isZero(registers.get(state, "svcr"))),
  );
}

/** Whether no guest's registers are in the machine. */
export function noGuestLoaded(state: State, m: Machine): Term {
  return and(...["fpLoaded", "debugLoaded"].map((name) => isZero(cpuField(state, m, name))));
}

/** What holds when the host goes on. */
export function hostRuns(state: State, m: Machine, registers: Registers): Term {
  const is = (name: string, value: Term) => eq(registers.get(state, name), value);
  return and(
    knowsNumber(state, m),
    isZero(cpuField(state, m, "running")),
    noGuestLoaded(state, m),
    is("vttbr_el2", vttbrOf(m, HOST_ROOT)),
    is("vtcr_el2", m.core("hostVtcr")),
    is("hcr_el2", mask(HCR_HOST)),
    is("vbar_el2", bv(0, 64)),
  );
}

/** What holds when the guest whose vCPU record is at `vcpu` goes on. */
export function guestRuns(state: State, m: Machine, registers: Registers, vcpu: Term): Term {
  const record = (name: string) => word(state, vcpuField(m, vcpuIndex(vcpu), name));
  const get = (name: string) => registers.get(state, name);
  return and(
    knowsNumber(state, m),
    eq(cpuField(state, m, "running"), zext(vcpu, 64)),
    eq(get("vttbr_el2"), record("vttbr")),
    eq(get("vtcr_el2"), record("vtcr")),
    isGuestHcr(state, m, vcpu, get("hcr_el2")),
    eq(get("vbar_el2"), bv(1, 64)),
  );
}

// ----------------------------------------------------------------------------------------------------------------------------- an entry

/** Profiling and trace buffers of the host, by feature: control of the buffer, and of what goes there; whether it may still write. */
const BUFFERS = [
  ["SPE", "pmblimitr_el1", "pmscr_el1", "pmscrEl1", "profiling"],
  ["TRBE", "trblimitr_el1", "trfcr_el1", "trfcrEl1", "tracing"],
] as const;

function buffersStopped(state: State, m: Machine, registers: Registers, entered: Term): void {
  for (const [feature, limit, control, place] of BUFFERS) {
    const enabled = eq(extract(BUFFER_ENABLED, BUFFER_ENABLED, registers.get(state, limit)), bv(1, 1));
    const exists = and(entered, has(state, m, feature));
    const kept = ite(enabled, registers.get(state, control), bv(0, 64));
    write(state, "linear", cpuKey(m, place), kept, exists);
    registers.set(state, control, bv(0, 64), and(exists, enabled));
  }
}

function buffersGoOn(state: State, m: Machine, registers: Registers): void {
  for (const [feature, , control, place] of BUFFERS) {
    const kept = cpuField(state, m, place);
    registers.set(state, control, kept, and(has(state, m, feature), not(isZero(kept))));
  }
}

/** Byte offsets in a struct user_pt_regs of what follows x0 to x30. */
const FRAME = { sp_el0: 248, elr_el2: 256, spsr_el2: 264 } as const;

/** What is `offset` bytes into the struct user_pt_regs of the context at `context`. */
const inFrame = (m: Machine, context: Term, offset: number): Term =>
  add(fieldsAt(m, context)("regs"), bv(offset, 64));

/** Registers of SME that no trap hides. */
export const SME = ["smpri_el1", "tpidr2_el0"] as const;
/** Where a context goes on. */
export const RETURN = ["elr_el2", "spsr_el2", "sp_el0"] as const;

/** HCR_EL2 for a guest of which the host wants `chosen`: what every guest has, and what its vCPU was made with. */
function guestHcr(state: State, m: Machine, vcpu: Term, chosen: Term): Term {
  const own = word(state, vcpuField(m, vcpuIndex(vcpu), "hcr"));
  const fwb = ite(
    eq(extract(0, 0, m.core("forceWriteBack")), bv(1, 1)),
    mask(fieldsIn(HCR, "FWB")),
    bv(0, 64),
  );
  return bor(bor(band(chosen, mask(HCR_CHOICE)), mask(HCR_GUEST)), bor(own, fwb));
}

/** What MDCR_EL2 denies every guest: breakpoints too, unless they are loaded. */
const mdcrDenied = (debug: Term): Term => ite(debug, mask(MDCR_GUEST), mask({ ...MDCR_GUEST, ...MDCR_TDA }));

/** MDCR_EL2 for a guest of which the host wants `chosen`, by the debug registers that are loaded. */
const guestMdcr = (state: State, m: Machine, chosen: Term): Term =>
  bor(band(chosen, mask(MDCR)), mdcrDenied(debugIsLoaded(state, m)));

/** What a guest may have of HCRX_EL2: what the host has itself. */
const hcrxAllowed = (state: State, m: Machine): Term =>
  band(mask(HCRX_CHOICE), cpuField(state, m, "hostHcrx"));

/** Registers that limit a guest are what the host wants, as it was just read, within what it may choose. */
function usesChoices(m: Machine, registers: Registers): Uses {
  const context = (state: State, [, vcpu]: readonly Term[]) => contextOf(state, m, vcpu as Term);
  const at = ({ state }: Call, args: readonly Term[], name: string) =>
    fieldsAt(m, context(state, args))(name);
  const chosen = (call: Call, args: readonly Term[], condition: Term) => {
    const place = at(call, args, "hcrEl2");
    const known = apart(place, at(call, args, "disrEl1"), at(call, args, "vsesrEl2"));
    const wanted = guestHcr(call.state, m, args[1] as Term, heard(call.state, place, 8));
    call.oblige(
      "HCR_EL2 is what the host wants",
      implies(and(known, condition), eq(cpuField(call.state, m, "guestHcr"), wanted)),
    );
  };
  return {
    ...usesContext(m, context),
    // By the guest's translation, the host's buffers would write into the guest's memory.
    msr_vttbr_el2: ({ state, oblige }) => {
      for (const [feature, limit, , , mayWrite] of BUFFERS) {
        const enabled = eq(extract(BUFFER_ENABLED, BUFFER_ENABLED, registers.get(state, limit)), bv(1, 1));
        oblige(
          `what ${feature} recorded of the host is written`,
          implies(and(has(state, m, feature), enabled), not(ghost(state, mayWrite))),
        );
      }
    },
    "pauth/loadGuestKeys": (call, args) => chosen(call, args, TRUE),
    msr_hcr_el2: (call, args) =>
      chosen(call, args, not(usesKeys(call.state, m, cpuField(call.state, m, "guestHcr")))),
    msr_mdcr_el2: (call, args) =>
      call.oblige(
        "MDCR_EL2 is what the host wants",
        eq(call.args[0] as Term, guestMdcr(call.state, m, heard(call.state, at(call, args, "mdcrEl2"), 8))),
      ),
    msr_hcrx_el2: (call, args) => {
      const wanted = heard(call.state, at(call, args, "hcrxEl2"), 8);
      const given = band(wanted, hcrxAllowed(call.state, m));
      call.oblige("HCRX_EL2 is what the host wants", eq(call.args[0] as Term, given));
    },
    "debug/loadGuestDebug": (call, args) => {
      const flags = heard(call.state, at(call, args, "iflags"), 1);
      call.oblige(
        "the guest has debug registers",
        not(isZero(band(flags, mask(fieldsIn(IFLAGS, "DEBUG_DIRTY"))))),
      );
    },
  };
}

function enterGuest(c: Clause, m: Machine, registers: Registers): Term {
  const vcpu = c.args[1] as Term;
  const { before, state } = c;
  requireVcpu(c, m, vcpu);
  c.require("no guest's registers are in the machine", noGuestLoaded(before, m));
  const record = (name: string) => word(before, vcpuField(m, vcpuIndex(vcpu), name));
  const present = (...features: Parameters<typeof has>[2][]) => has(before, m, ...features);
  const result = c.result(32);
  const entered = eq(result, bv(1, 32));
  c.ensure("it says whether the guest was entered", ule(result, bv(1, 32)));
  c.can("the guest is entered", entered);
  c.can("the host's description is refused", not(entered));
  const context = contextOf(before, m, vcpu);
  const asked = hears(c, inFrame(m, context, FRAME.spsr_el2), 8, not(entered));
  c.ensure(
    "what is a guest's processor state, and suits the CPU, is entered",
    or(entered, not(and(isGuestPstate(before, m, asked), suits(before, m, registers, vcpu)))),
  );
  const set = (name: string, value: Term, condition: Term = TRUE) =>
    registers.set(state, name, value, and(entered, condition));
  const put = (name: string, value: Term, condition: Term = TRUE) =>
    write(state, "linear", cpuKey(m, name), value, and(entered, condition));

  // The host's registers are put away.
  for (const name of RETURN) putAway(state, m, registers, name, entered);
  hostEl1Saved(state, m, registers, entered);
  buffersStopped(state, m, registers, entered);
  for (const name of SME) {
    putAway(state, m, registers, name, and(entered, present("SME")));
    set(name, bv(0, 64), present("SME"));
  }
  putAway(state, m, registers, "pmuserenr_el0", and(entered, present("PMU")));
  set("pmuserenr_el0", mask(PMUSERENR), present("PMU"));
  set("pmselr_el0", bv(0, 64), present("PMU"));
  const hcr = c.choose("HCR_EL2", 64, (after) => cpuField(after, m, "guestHcr"));
  const debug = c.choose("breakpoints are loaded", 0, (after) => debugIsLoaded(after, m));
  const keys = and(entered, usesKeys(before, m, hcr));
  hostKeysSaved(state, m, registers, keys);
  hostDebugSaved(state, m, registers, and(entered, debug));

  // What the host chooses for its guest, from the context as it is when the host's emulation is done with it.
  const at = fieldsAt(m, context);
  setGhost(state, "adjusted", context);
  for (const [name, offset] of Object.entries(FRAME))
    loads(c, registers, name, inFrame(m, context, offset), entered);
  guestEl1Loaded(c, m, registers, context, entered);
  loads(c, registers, "vdisr_el2", at("disrEl1"), and(entered, present("RAS")));
  const injects = and(present("RAS"), eq(extract(8, 8, hcr), bv(1, 1)));
  loads(c, registers, "vsesr_el2", at("vsesrEl2"), and(entered, injects));
  for (const key of KEYS) loads(c, registers, key, placeOf(m, context, key), keys);
  c.havoc("registers", (key) =>
    and(
      entered,
      or(
        and(debug, isGuestDebug(before, m, registers, key)),
        and(present("PMU"), registers.among(key, ["pmcntenset_el0", "pmcntenclr_el0"])),
        registers.among(key, VGIC_ENTRY),
      ),
    ),
  );
  c.havoc("linear", (key) => and(entered, or(isGuestReg(m, key), eq(key, cpuKey(m, "usedLrs")))));
  for (let n = 0; n < 31; n++) {
    const value = c.choose(`x${n}`, 64, (after) => word(after, guestReg(m, n)));
    reads(c, inFrame(m, context, 8 * n), value, entered);
  }
  c.can("breakpoints are the guest's", and(entered, debug));
  c.can("keys are the guest's", keys);
  c.ensure(
    "it goes to EL0 or EL1",
    implies(entered, isGuestPstate(before, m, registers.get(state, "spsr_el2"))),
  );
  const events = c.choose("events", 64, (after) => cpuField(after, m, "pmuEvents"));
  put("pmuEvents", events, present("PMU"));
  reads(c, at("pmuEventsHost"), extract(31, 0, events), and(entered, present("PMU")));
  reads(c, at("pmuEventsGuest"), extract(63, 32, events), and(entered, present("PMU")));
  const counts = (name: string, half: Term) =>
    implies(not(isZero(half)), eq(registers.get(state, name), zext(half, 64)));
  c.ensure(
    "it is noted which events count for whom",
    implies(
      and(entered, present("PMU")),
      and(
        counts("pmcntenclr_el0", extract(31, 0, events)),
        counts("pmcntenset_el0", extract(63, 32, events)),
      ),
    ),
  );
  c.ensure("its interface is its alone", implies(entered, enterVgic(state, m, registers, before)));
  hostSre(state, registers, true, entered);
  c.ensure("the CPU can run it", implies(entered, suits(before, m, registers, vcpu)));

  // What every guest is denied.
  c.ensure("HCR_EL2 is a guest's", implies(entered, isGuestHcr(before, m, vcpu, hcr)));
  put("guestHcr", hcr);
  set("hcr_el2", hcr);
  const mdcr = c.choose("MDCR_EL2", 64, (after) => registers.get(after, "mdcr_el2"));
  const denied = mdcrDenied(debug);
  c.ensure(
    "MDCR_EL2 is a guest's",
    implies(entered, and(eq(band(mdcr, denied), denied), isZero(without(mdcr, MDCR)))),
  );
  set("mdcr_el2", mdcr);
  const hcrx = c.choose("HCRX_EL2", 64, (after) => registers.get(after, "hcrx_el2"));
  c.ensure(
    "HCRX_EL2 gives what the host has, too",
    implies(and(entered, present("HCX")), isZero(band(hcrx, bnot(hcrxAllowed(before, m))))),
  );
  set("hcrx_el2", hcrx, present("HCX"));
  set("vttbr_el2", record("vttbr"));
  set("vtcr_el2", record("vtcr"));
  set("hstr_el2", mask(HSTR));
  set("cptr_el2", mask(CPTR));
  set("cnthctl_el2", mask(fieldsIn(CNTHCTL, "EL1PCTEN")));
  set("vbar_el2", bv(1, 64));
  put("running", zext(vcpu, 64));
  return result;
}

// ----------------------------------------------------------------------------------------------------------------------------- an exit

/** Demands that the SVE state of a vCPU that has it is held in place. */
export function requireSve(c: Clause, m: Machine, vcpu: Term): void {
  const record = (name: string) => word(c.before, vcpuField(m, vcpuIndex(vcpu), name));
  const vq = record("sveVq");
  requireInPlace(c, "the SVE state", record("svePa"), sveBytes(vq), not(isZero(vq)));
}

/** Uses of the lemma for what is in place: the context of a vCPU, and its SVE state. */
export function usesVcpu(m: Machine, registers: Registers, vcpuOf: (args: readonly Term[]) => Term): Uses {
  const sve = (call: Call, args: readonly Term[]) => {
    const vcpu = vcpuOf(args);
    const record = (name: string) => word(call.state, vcpuField(m, vcpuIndex(vcpu), name));
    const [pa, status] = call.args as [Term, Term];
    const size = sveBytes(record("sveVq"));
    const length = sveBytesNow(registers, call.state);
    const use = (at: Term, bytes: Term) => useInPlace(call, m, record("svePa"), size, at, bytes);
    return [
      ...use(pa, length),
      ...sveMiddles(pa, length).flatMap((at) => use(at, bv(1, 64))),
      ...useInPlace(call, m, record("pa"), m.profile("vcpuSize"), status, bv(SVE_STATUS_BYTES, 64)),
    ];
  };
  return {
    ...usesContext(m, (state, args) => contextOf(state, m, vcpuOf(args))),
    sve_save_host: sve,
    sve_load_host: sve,
  };
}

/** The host is told the guest's context: each register at its place. */
function guestTold(c: Clause, m: Machine, registers: Registers, vcpu: Term): void {
  const { before } = c;
  const context = contextOf(before, m, vcpu);
  const at = fieldsAt(m, context);
  const put = (name: string, place: Term, condition: Term = TRUE) =>
    writes(c, place, registers.get(before, name), condition);
  for (let n = 0; n < 31; n++) writes(c, inFrame(m, context, 8 * n), word(before, guestReg(m, n)));
  for (const [name, offset] of Object.entries(FRAME)) put(name, inFrame(m, context, offset));
  for (const { name, exists } of sharedEl1(before, m)) put(name, placeOf(m, context, name), exists);
  put("vdisr_el2", at("disrEl1"), has(before, m, "RAS"));
  put("disr_el1", at("faultDisrEl1"), hadSerror(before, m, registers));
  guestFpSaved(c, m, registers, vcpu);
  const keys = usesKeys(before, m, cpuField(before, m, "guestHcr"));
  for (const key of KEYS) put(key, placeOf(m, context, key), keys);
}

/** Whether an SError waits that the guest deferred. */
const hadSerror = (state: State, m: Machine, registers: Registers): Term =>
  and(has(state, m, "RAS"), not(isZero(registers.get(state, "disr_el1"))));

/** Whether the guest's virtual SError still waits is noted in its HCR_EL2, of which all else stays. */
const keepsSerror = (m: Machine, registers: Registers): Uses => ({
  host_write64: (call, args) => {
    const [place, value] = call.args as [Term, Term];
    if (place !== fieldsAt(m, contextOf(call.state, m, args[1] as Term))("hcrEl2")) return;
    const vse = fieldsIn(HCR, "VSE");
    const others = without(heard(call.state, place, 8), vse);
    const pending = band(registers.get(call.state, "hcr_el2"), mask(vse));
    call.oblige("only whether an SError waits changes", eq(value, bor(others, pending)));
  },
});

/** That the guest's debug registers are in its context is noted there. */
const forgetsDirty = (m: Machine): Uses => ({
  host_write8: (call, args) => {
    const [place, value] = call.args as [Term, Term];
    const context = contextOf(call.state, m, args[1] as Term);
    const flags = heard(call.state, place, 1);
    call.oblige("flags are written to the flags", eq(place, fieldsAt(m, context)("iflags")));
    call.oblige(
      "they are no longer dirty",
      eq(value, extract(31, 0, without(flags, fieldsIn(IFLAGS, "DEBUG_DIRTY")))),
    );
  },
});

/** `leaveGuest`: what the exit makes of the state, and the exit code. */
export function leaveGuest(state: State, m: Machine, registers: Registers, vcpu: Term, code: Term): Term {
  const present = (...features: Parameters<typeof has>[2][]) => has(state, m, ...features);
  const set = (name: string, value: Term, condition: Term = TRUE) =>
    registers.set(state, name, value, condition);
  const hcr = cpuField(state, m, "guestHcr");
  const deferred = hadSerror(state, m, registers);
  set("disr_el1", bv(0, 64), present("RAS"));

  // Every register that host and guests share is the host's again.
  hostEl1Loaded(state, m, registers);
  for (const name of RETURN) bringBack(state, m, registers, name);
  for (const name of SME) bringBack(state, m, registers, name, present("SME"));
  hostFpLoaded(state, m, registers, vcpu);
  hostDebugLoaded(state, m, registers, debugIsLoaded(state, m));
  hostKeysLoaded(state, m, registers, usesKeys(state, m, hcr));
  leaveVgic(state, m, registers);
  const events = cpuField(state, m, "pmuEvents");
  const [guestEvents, hostEvents] = [
    concat(bv(0, 32), extract(63, 32, events)),
    concat(bv(0, 32), extract(31, 0, events)),
  ];
  set("pmcntenclr_el0", guestEvents, and(present("PMU"), not(isZero(guestEvents))));
  set("pmcntenset_el0", hostEvents, and(present("PMU"), not(isZero(hostEvents))));
  bringBack(state, m, registers, "pmuserenr_el0", present("PMU"));
  buffersGoOn(state, m, registers);

  // EL2's are as they are while the host runs.
  set("hcr_el2", mask(HCR_HOST));
  set("vttbr_el2", vttbrOf(m, HOST_ROOT));
  set("vtcr_el2", m.core("hostVtcr"));
  set("vbar_el2", bv(0, 64));
  set("hstr_el2", bv(0, 64));
  set("cnthctl_el2", mask(CNTHCTL));
  set("vmpidr_el2", registers.get(state, "mpidr_el1"));
  set("cptr_el2", cpuField(state, m, "hostCptr"));
  set("mdcr_el2", cpuField(state, m, "hostMdcr"));
  set("hcrx_el2", cpuField(state, m, "hostHcrx"), present("HCX"));
  write(state, "linear", cpuKey(m, "running"), bv(0, 64));
  return ite(deferred, bor(code, WITH_SERROR), code);
}

/**
 * Every register that host and guests share, by name, with the value that the host finds there when it goes on next: what is in the
 * register, or what waits in this CPU's area while a guest that is in the machine uses it.
 */
function hostValues(
  state: State,
  m: Machine,
  registers: Registers,
  vcpu: Term,
  inGuest: Term,
): Map<string, Term> {
  const now = (name: string) => registers.get(state, name);
  const waits = (condition: Term, name: string, place: Term) => ite(condition, place, now(name));
  const field = (name: string) => cpuField(state, m, fieldOf(name));
  const debug = and(inGuest, debugIsLoaded(state, m));
  const keys = and(inGuest, usesKeys(state, m, cpuField(state, m, "guestHcr")));
  const when: [name: string, condition: Term, place: Term][] = [
    ...RETURN.map((name) => [name, inGuest, field(name)] as [string, Term, Term]),
    ...sharedEl1(state, m).map(
      ({ name, exists }) => [name, and(inGuest, exists), field(name)] as [string, Term, Term],
    ),
    ...SME.map((name) => [name, and(inGuest, has(state, m, "SME")), field(name)] as [string, Term, Term]),
    ["pmuserenr_el0", and(inGuest, has(state, m, "PMU")), field("pmuserenr_el0")],
    ...KEYS.map((name, n) => [name, keys, read(state, "linear", keyPlace(m, n))] as [string, Term, Term]),
    ...debugRegisters(state, m).map(
      ({ name, place, exists }) =>
        [name, and(debug, exists), read(state, "linear", place)] as [string, Term, Term],
    ),
    ["mdccint_el1", debug, field("mdccint_el1")],
    ["zcr_el1", and(inGuest, fpIsLoaded(state, m), hasSve(state, m, vcpu)), field("zcr_el1")],
  ];
  return new Map([
    ...when.map(([name, condition, place]) => [name, waits(condition, name, place)] as const),
    ["fp", fpOfHost(state, m, registers)] as const,
  ]);
}

/** Promises, if `condition`, that the host's registers are what they were, with a guest in the machine before and after or not. */
export function hostKeeps(
  c: Clause,
  m: Machine,
  registers: Registers,
  vcpu: Term,
  inGuest: { before: Term; after: Term },
  condition: Term = TRUE,
): void {
  const after = hostValues(c.state, m, registers, vcpu, inGuest.after);
  const before = hostValues(c.before, m, registers, vcpu, inGuest.before);
  for (const [n, [name, value]] of [...after].entries())
    c.ensure(
      `the host finds its registers as they were (${n >> 3})`,
      implies(condition, eq(value, before.get(name) as Term)),
    );
}

/** Carries out what the host's emulation left to do: an exception of the guest, or an instruction behind it. */
function adjustPc(c: Clause, m: Machine): void {
  const context = c.args[0] as Term;
  requireContext(c, m, context);
  setGhost(c.state, "adjusted", context);
  const at = fieldsAt(m, context);
  const [pcPlace, pstatePlace] = [FRAME.elr_el2, FRAME.spsr_el2].map((offset) =>
    inFrame(m, context, offset),
  ) as [Term, Term];
  const places = [pcPlace, pstatePlace, at("vbarEl1"), at("sctlrEl1"), at("faultEsrEl2")];
  const flags = hears(c, at("iflags"), 1);
  const some = (flag: keyof typeof IFLAGS) => not(isZero(band(flags, mask(fieldsIn(IFLAGS, flag)))));
  const takes = some("PENDING_EXCEPTION");
  const sync = and(takes, not(some("EXCEPT")));
  const skips = and(not(takes), some("INCREMENT_PC"));
  const known = apart(...places);
  const [pc, pstate, vbar, sctlr, esr] = places.map((place, n) =>
    hears(c, place, 8, and(known, n < 2 ? or(takes, skips) : n < 4 ? sync : skips)),
  ) as [Term, Term, Term, Term, Term];
  // Of a context whose places are not apart nothing is said.
  const tell = (place: Term, value: Term, condition: Term) => writes(c, place, value, and(known, condition));
  tell(at("elrEl1"), pc, sync);
  tell(at("spsrEl1"), pstate, sync);
  tell(pcPlace, syncVector(vbar, pstate), sync);
  tell(pstatePlace, exceptionPstate(pstate, sctlr), sync);
  tell(pcPlace, pcAfter(pc, pstate, esr), skips);
  tell(pstatePlace, pstateAfter(pstate), skips);
  const done = without(flags, fieldsIn(IFLAGS, "PENDING_EXCEPTION", "INCREMENT_PC", "EXCEPT"));
  tell(at("iflags"), extract(7, 0, done), or(takes, skips));
  c.can("an exception is taken", sync);
  c.can("an instruction is skipped", skips);
  c.can("there is nothing to do", not(or(takes, skips)));
}

export function vcpuContracts({ m, registers }: Core): Contract[] {
  return [
    {
      // Carries out what the host's emulation left to do, in the context alone.
      function: "vcpu/adjustPc",
      parameters: ["context"],
      uses: usesContext(m, (_, [context]) => context as Term),
      atReturn: (state, [context]) => setGhost(state, "adjusted", context as Term),
      spec: (c) => adjustPc(c, m),
    },
    {
      // Exchanges the host's context for a guest's, or leaves everything as it is.
      function: "vcpu/enterGuest",
      parameters: ["cpu", "vcpu"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      uses: usesChoices(m, registers),
      spec: (c) => enterGuest(c, m, registers),
    },
    {
      // Exchanges the guest's context for the host's.
      function: "vcpu/leaveGuest",
      parameters: ["cpu", "vcpu", "code"],
      forms: { 0: thisCpu(m), 1: vcpuForm(m) },
      uses: together(
        usesVcpu(m, registers, ([, vcpu]) => vcpu as Term),
        forgetsDirty(m),
        keepsSerror(m, registers),
      ),
      spec(c) {
        const [, vcpu, code] = c.args as [Term, Term, Term];
        requireVcpu(c, m, vcpu);
        requireSve(c, m, vcpu);
        requireFpSynchronized(c);
        guestTold(c, m, registers, vcpu);
        const result = leaveGuest(c.state, m, registers, vcpu, code);
        c.can("an SError was consumed", ne(result, code));
        return result;
      },
    },
  ];
}
