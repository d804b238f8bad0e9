/**
 * The profile: no offset that the core uses leads out of its structure, whatever the boot tool says (`checkProfile`).
 *
 * Structures of the host that the core uses over time are held in place: their pages are accessible as long as something pins them.
 */
import {
  add,
  and,
  apply,
  bv,
  type Call,
  type Clause,
  type Contract,
  eq,
  type Invariant,
  implies,
  isConst,
  ne,
  type Problem,
  type State,
  sub,
  type Term,
  TRUE,
  uge,
  ule,
  variable,
} from "../microv/index.ts";
import { vcpuField } from "./invariants.ts";
import { fieldNames } from "./layout.ts";
import { vcpuIndex } from "./linear.ts";
import { accessAllowed, FP_BYTES, FRAME_BYTES } from "./machine.ts";
import { arbitraryState, fitsPhysical, holds, isAligned, type Machine, memory, page, word } from "./state.ts";

/** Room for the largest member behind an offset into struct kvm_vcpu, struct kvm, and struct kvm_guest_debug_arch. */
const VCPU_ROOM = 640;
const KVM_ROOM = 64;
const DEBUG_MOST = 512;
const SMALLEST = 1024;
const LARGEST = 8 << 11;

const NAMES = fieldNames.profile;
const between = (name: string, first: string, end?: string) =>
  NAMES.indexOf(name) >= NAMES.indexOf(first) &&
  (end === undefined || NAMES.indexOf(name) < NAMES.indexOf(end));

/** What holds of a field of the profile. */
export function profileField(m: Machine, name: string): Term {
  const value = m.profile(name);
  const sane = (size: Term) =>
    and(ule(size, bv(LARGEST, 64)), uge(size, bv(SMALLEST, 64)), isAligned(size, 3));
  const member = (size: Term, room: number) => and(sane(size), ule(value, sub(size, bv(room, 64))));
  if (name === "vcpuSize" || name === "kvmSize") return sane(value);
  if (between(name, "createdVcpus", "dbgBcr")) return member(m.profile("kvmSize"), KVM_ROOM);
  if (between(name, "dbgBcr", "vcpuKvm")) return ule(value, bv(DEBUG_MOST, 64));
  return between(name, "vcpuKvm") ? member(m.profile("vcpuSize"), VCPU_ROOM) : TRUE;
}

/** The profile never changes; what is known of it is used where it is read. */
export function profileInvariant(m: Machine): Invariant {
  const first = m.layout.constant("PROFILE") >> 3;
  return {
    name: "the profile leads out of no structure",
    memory: "linear",
    at: (_, key) => {
      const name = isConst(key) ? NAMES[Number(key.value) - first] : undefined;
      return name === undefined ? TRUE : profileField(m, name);
    },
  };
}

/** Whether page `x` holds some of `size` bytes at `pa`, which do not wrap. */
export const reaches = (pa: Term, size: Term, x: Term): Term =>
  and(uge(x, page(pa)), ule(x, page(sub(add(pa, size), bv(1, 64)))));

/** That every page of the `size` bytes at `start` is accessible. */
const inPlace = (start: Term, size: Term): Term => eq(apply("in place", 1, start, size), bv(1, 1));

/** Demands that `size` bytes at `start` are memory of the host, held in place, if `condition`. */
export function requireInPlace(
  c: Clause,
  what: string,
  start: Term,
  size: Term,
  condition: Term = TRUE,
): void {
  c.require(`${what} is physical memory`, implies(condition, fitsPhysical(start, size)));
  c.requireToken(`${what} is held in place`, implies(condition, inPlace(start, size)), "accessible", (x) =>
    implies(and(condition, reaches(start, size, x)), holds(c.before, "accessible", x)),
  );
}

/** Demands that the struct kvm_vcpu at `context` is memory of the host, held in place. */
export function requireContext(c: Clause, m: Machine, context: Term): void {
  requireInPlace(c, "the context", context, m.profile("vcpuSize"));
}

/** Where the context is of the vCPU whose record is at `vcpu`. */
export const contextOf = (state: State, m: Machine, vcpu: Term): Term =>
  word(state, vcpuField(m, vcpuIndex(vcpu), "pa"));

/** Where the structure of the host at `start` has the field that the profile calls by a name. */
export const fieldsAt =
  (m: Machine, start: Term) =>
  (name: string): Term =>
    add(start, m.profile(name));

/** Demands that the vCPU whose record is at `vcpu` exists and is held, with its context, which is the result. */
export function requireVcpu(c: Clause, m: Machine, vcpu: Term): Term {
  const index = vcpuIndex(vcpu);
  c.require("the vCPU is held", holds(c.before, "vcpuHeld", index));
  c.require("the vCPU exists", ne(word(c.before, vcpuField(m, index, "hva")), bv(0, 64)));
  const context = contextOf(c.before, m, vcpu);
  requireContext(c, m, context);
  return context;
}

/** Bytes that a primitive touches at an argument, by name of the primitive and position of the argument. */
const ACCESSES: Record<string, readonly [position: number, bytes: number]> = {
  host_read8: [0, 1],
  host_read32: [0, 4],
  host_read64: [0, 8],
  host_write8: [0, 1],
  host_write32: [0, 4],
  host_write64: [0, 8],
  host_read_frame: [1, FRAME_BYTES],
  host_write_frame: [0, FRAME_BYTES],
  fp_save_host: [0, FP_BYTES],
  fp_load_host: [0, FP_BYTES],
};

/** Whether `bytes` bytes at `pa` lie in the structure of `size` bytes at `start`. */
const liesIn = (start: Term, size: Term, pa: Term, bytes: Term): Term =>
  and(ule(bytes, size), ule(sub(pa, start), sub(size, bytes)));

/** Uses of lemmas, by the primitive before which they are used. */
export type Uses = NonNullable<Contract["uses"]>;

/** Both uses of each call. */
export function together(...all: readonly Uses[]): Uses {
  const names = new Set(all.flatMap(Object.keys));
  return Object.fromEntries(
    [...names].map((name) => [
      name,
      (call: Call, args: readonly Term[]) => all.flatMap((uses) => uses[name]?.(call, args) ?? []),
    ]),
  );
}

/** Of what is held in place every byte may be accessed: the lemma `inPlace`, used of `bytes` bytes at `pa`. */
export function useInPlace(call: Call, m: Machine, start: Term, size: Term, pa: Term, bytes: Term): Term[] {
  return useInPart(call, m, start, size, start, size, pa, bytes);
}

/** As `useInPlace`, of an access in a part of what is held in place. */
export function useInPart(
  call: Call,
  m: Machine,
  start: Term,
  size: Term,
  part: Term,
  partSize: Term,
  pa: Term,
  bytes: Term,
): Term[] {
  if (memory(call.state, "accessible").baseName !== "accessible") return [];
  if (part !== start) call.oblige("a part of what is held lies in it", liesIn(start, size, part, partSize));
  call.oblige(
    "an access stays in what is held",
    and(liesIn(part, partSize, pa, bytes), fitsPhysical(start, size)),
  );
  call.oblige("what is accessed is held in place", and(inPlace(start, size), ule(size, bv(LARGEST, 64))));
  return [accessAllowed(call.state, m, pa, bytes)];
}

/** Uses of the lemma for every access to the context at `start`. */
export function usesContext(m: Machine, start: (state: State, args: readonly Term[]) => Term): Uses {
  const use = (position: number, bytes: number) => (call: Call, args: readonly Term[]) =>
    useInPlace(
      call,
      m,
      start(call.state, args),
      m.profile("vcpuSize"),
      call.args[position] as Term,
      bv(bytes, 64),
    );
  return Object.fromEntries(
    Object.entries(ACCESSES).map(([name, [position, bytes]]) => [name, use(position, bytes)]),
  );
}

/** Every access within a structure held in place is one that the machine allows. */
export function inPlaceLemma(m: Machine): Problem {
  const word = (name: string) => variable(`in place.${name}`, 64);
  const [start, size, pa, bytes] = [word("start"), word("size"), word("pa"), word("bytes")];
  const [part, partSize] = [word("part"), word("part's size")];
  const state = arbitraryState();
  return {
    name: "a structure that is held in place is accessible",
    hypotheses: [
      fitsPhysical(start, size),
      ule(size, bv(LARGEST, 64)),
      uge(bytes, bv(1, 64)),
      liesIn(start, size, part, partSize),
      liesIn(part, partSize, pa, bytes),
    ],
    entryFacts: [
      {
        memory: "accessible",
        at: (x) => implies(reaches(start, size, x), holds(state, "accessible", x)),
      },
    ],
    goals: [{ name: "it is accessible", path: TRUE, goal: accessAllowed(state, m, pa, bytes) }],
  };
}
