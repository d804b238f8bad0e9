/**
 * FP/SIMD and SVE registers: the host's wait in this CPU's area from a guest's first use of them until its exit.
 *
 * A register file is a token: what it holds is what matters, and where. `images` says which one an image in the area holds.
 */
import {
  add,
  and,
  bv,
  type Call,
  type Clause,
  eq,
  ite,
  not,
  type State,
  sub,
  type Term,
  ult,
} from "../microv/index.ts";
import { heard, writes } from "./dialogue.ts";
import { bringBack, placeOf, putAway } from "./el1.ts";
import { vcpuField } from "./invariants.ts";
import { vcpuIndex } from "./linear.ts";
import { FP_BYTES, type Registers } from "./machine.ts";
import { areaKey, cpuField, cpuKey, inArea } from "./percpu.ts";
import { contextOf, type Uses } from "./profile.ts";
import { type Machine, read, word, write } from "./state.ts";

/** ZCR_ELx.LEN that allows all vector lengths. */
const ZCR_ALL = bv(15, 64);

const hostFp = (m: Machine) => m.layout.constant("HOST_FP");
const hostImage = (m: Machine): Term => inArea(m, hostFp(m));

export const fpIsLoaded = (state: State, m: Machine): Term =>
  not(eq(cpuField(state, m, "fpLoaded"), bv(0, 64)));

/** The host's register file, wherever it is. */
export const fpOfHost = (state: State, m: Machine, registers: Registers): Term =>
  ite(fpIsLoaded(state, m), read(state, "images", hostImage(m)), registers.get(state, "fp"));

/** Vector length of a vCPU in quadwords; 0 without SVE. */
const sveVq = (state: State, m: Machine, vcpu: Term): Term =>
  word(state, vcpuField(m, vcpuIndex(vcpu), "sveVq"));
export const hasSve = (state: State, m: Machine, vcpu: Term): Term =>
  not(eq(sveVq(state, m, vcpu), bv(0, 64)));

/** Where the guest's register file is: in the context, or with SVE in a buffer of its own. */
function fpPlace(state: State, m: Machine, vcpu: Term): Term {
  const buffer = word(state, vcpuField(m, vcpuIndex(vcpu), "svePa"));
  const image = add(contextOf(state, m, vcpu), m.profile("fpRegs"));
  return ite(hasSve(state, m, vcpu), buffer, image);
}

/** The guest's registers come from their place. */
export function usesFpPlaces(m: Machine, vcpuOf: (args: readonly Term[]) => Term): Uses {
  const comesFromIts = (call: Call, args: readonly Term[]) =>
    call.oblige(
      "a guest's registers come from its own place for them",
      eq(call.args[0] as Term, fpPlace(call.state, m, vcpuOf(args))),
    );
  return {
    fp_load_host: comesFromIts,
    sve_load_host: comesFromIts,
    msr_zcr_el1: (call, args) => {
      const place = placeOf(m, contextOf(call.state, m, vcpuOf(args)), "zcr_el1");
      call.oblige("ZCR_EL1 comes from there", eq(call.args[0] as Term, heard(call.state, place, 8)));
    },
  };
}

/** The guest's registers, which `c.before` has in the machine, are written to their place, if any are. */
export function guestFpSaved(c: Clause, m: Machine, registers: Registers, vcpu: Term): void {
  const { before } = c;
  const loaded = fpIsLoaded(before, m);
  writes(c, fpPlace(before, m, vcpu), registers.get(before, "fp"), loaded);
  const place = placeOf(m, contextOf(before, m, vcpu), "zcr_el1");
  writes(c, place, registers.get(before, "zcr_el1"), and(loaded, hasSve(before, m, vcpu)));
}

/** The host's registers are put away, and the guest's are in the machine, if `condition`. */
export function guestFpLoaded(
  c: Clause,
  m: Machine,
  registers: Registers,
  vcpu: Term,
  condition: Term,
): void {
  const { state } = c;
  const sve = and(condition, hasSve(state, m, vcpu));
  const vq = sveVq(state, m, vcpu);
  write(state, "images", hostImage(m), registers.get(state, "fp"), condition);
  const start = areaKey(m, hostFp(m));
  c.havoc("linear", (key) => and(condition, ult(sub(key, start), bv(FP_BYTES / 8, 29))));
  putAway(state, m, registers, "zcr_el1", sve);
  registers.set(state, "zcr_el2", sub(vq, bv(1, 64)), sve);
  c.havoc("registers", (key) => and(condition, registers.among(key, ["fp"])));
  c.havoc("registers", (key) => and(sve, registers.among(key, ["zcr_el1"])));
  write(state, "linear", cpuKey(m, "fpLoaded"), bv(1, 64), condition);
}

/** The host's registers are in the machine. */
export function hostFpLoaded(state: State, m: Machine, registers: Registers, vcpu: Term): void {
  const loaded = fpIsLoaded(state, m);
  const sve = and(loaded, hasSve(state, m, vcpu));
  registers.set(state, "fp", read(state, "images", hostImage(m)), loaded);
  bringBack(state, m, registers, "zcr_el1", sve);
  registers.set(state, "zcr_el2", ZCR_ALL, sve);
  write(state, "linear", cpuKey(m, "fpLoaded"), bv(0, 64), loaded);
}
