/**
 * The stage 2 tables that the host keeps for a VM: what they propose for a page. They are the host's memory, read as they are when they are read.
 */
import {
  add,
  and,
  bv,
  type Call,
  type Contract,
  concat,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  lshr,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { apart, heard, reads, wasSeen } from "./dialogue.ts";
import { vmField } from "./invariants.ts";
import { theVm, vmForm } from "./lend.ts";
import { vmIndex } from "./linear.ts";
import { hostAccess } from "./machine.ts";
import {
  address,
  ghost,
  hasTableBit,
  isAligned,
  isHosts,
  isPhysical,
  isValid,
  type Machine,
  mappedKey,
  page,
  read,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** One step of a walk of the host's stage 2 tables: where the entry of a level is, and what it is. */
interface Step {
  readonly level: number;
  readonly slot: Term;
  readonly entry: Term;
  /** Whether the walk comes to this level. */
  readonly reached: Term;
  /** Whether the entry lies in a page of the host, so that it is read. */
  readonly isRead: Term;
}

/** The walk for `ipa` by tables with this VTCR_EL2 and first table, whose entries are `entries`, by level (Arm ARM D8.2, D24.2.189). */
function walkOf(
  state: State,
  m: Machine,
  [ipa, vtcr, pgd]: readonly [Term, Term, Term],
  entries: readonly Term[],
): readonly Step[] {
  const sl0 = extract(7, 6, vtcr);
  const bits = sub(bv(64, 64), zext(extract(5, 0, vtcr), 64));
  const starts = and(
    and(ule(bv(32, 64), bits), ule(bits, bv(52, 64)), eq(lshr(ipa, bits), bv(0, 64))),
    ne(sl0, bv(3, 2)),
  );
  const steps: Step[] = [];
  for (const [level, entry] of entries.entries()) {
    const shift = 39 - 9 * level;
    const above = steps[level - 1];
    const isFirst = level === 3 ? FALSE : eq(sl0, bv(2 - level, 2));
    const first = add(address(page(pgd)), concat(bv(0, shift - 3), extract(63, shift, ipa), bv(0, 3)));
    const next = concat(bv(0, 52), extract(shift + 8, shift, ipa), bv(0, 3));
    const slot = above ? ite(isFirst, first, add(address(page(above.entry)), next)) : first;
    const leads = above ? and(above.isRead, isValid(above.entry), hasTableBit(above.entry)) : FALSE;
    const reached = and(starts, or(isFirst, leads));
    steps.push({
      level,
      slot,
      entry,
      reached,
      isRead: and(reached, isPhysical(slot), isHosts(state, m, page(slot))),
    });
  }
  return steps;
}

/** The leaf that the walk ends with, its address that of the page at `ipa`, with its level in the two low bits; 0 when there is none. */
function leafOf(ipa: Term, steps: readonly Step[]): Term {
  return steps.reduceRight(
    (found, { level, entry, isRead }) => {
      const low = 39 - 9 * level;
      const target =
        level === 3 ? extract(47, 12, entry) : concat(extract(47, low, entry), extract(low - 1, 12, ipa));
      const leaf = concat(extract(63, 48, entry), target, extract(11, 2, entry), bv(level, 2));
      const isLeaf = level === 3 ? hasTableBit(entry) : not(hasTableBit(entry));
      return ite(and(isRead, isValid(entry), isLeaf), leaf, found);
    },
    bv(0, 64),
  );
}

/** What `trail` has beside the entries of levels 0 to 3: which of all these is read now and where, VTCR_EL2, and the address of the first table. */
const Trail = { NOW: 4, PLACE: 5, VTCR: 6, PGD: 7 } as const;

const trail = (state: State, n: number): Term => read(state, "trail", bv(n, 3));

/** What was read as `n`: what is read now is in no other place yet. */
const found = (state: State, n: number): Term =>
  ite(eq(trail(state, Trail.NOW), bv(n, 64)), heard(state, trail(state, Trail.PLACE), 8), trail(state, n));

/** Another word is read, as `n`, at `place`. */
function next(state: State, n: Term, place: Term): void {
  const before = extract(2, 0, trail(state, Trail.NOW));
  write(state, "trail", before, heard(state, trail(state, Trail.PLACE), 8));
  write(state, "trail", bv(Trail.NOW, 3), n);
  write(state, "trail", bv(Trail.PLACE, 3), place);
}

/** Where the host keeps VTCR_EL2 and the address of the first table of the VM with `root`. */
const sources = (state: State, m: Machine, root: Term): [Term, Term] => {
  const kvm = word(state, vmField(m, root, "kvmPa"));
  return [add(kvm, m.profile("mmuVtcr")), add(kvm, m.profile("mmuPgdPhys"))];
};

/** The walk that the function has made in `now`, in a state where LOCK_S2PAGE is held since `start`. */
function walkIn(now: State, start: State, m: Machine, ipa: Term): readonly Step[] {
  const entries = [0, 1, 2, 3].map((n) => found(now, n));
  return walkOf(start, m, [ipa, found(now, Trail.VTCR), found(now, Trail.PGD)], entries);
}

export function hosttablesContracts({ m }: Core): Contract[] {
  const root = vmIndex(variable("proposal.vm", 32));
  const [LEVEL, IPA, SLOT] = [0, 1, 2];
  return [
    {
      // The leaf that the host's tables propose for `ipa`, with its level in the two low bits, or 0: what the walk of them gives, where they are in
      // the host's memory.
      function: "memory/proposal",
      parameters: ["vm", "ipa"],
      forms: { 0: vmForm(m) },
      loops: {
        0: {
          invariant: (now, entry) => {
            const [level, ipa, slot] = [LEVEL, IPA, SLOT].map((n) => now.locals[n]) as [Term, Term, Term];
            const steps = walkIn(now, entry, m, ipa);
            const [vtcrPlace, pgdPlace] = sources(entry, m, root);
            const ifApart = (...facts: Term[]) => implies(apart(vtcrPlace, pgdPlace), and(...facts));
            return {
              "the level is one of a tree's": ule(level, bv(3, 32)),
              "the slot is an entry": isAligned(slot, 3),
              "the tables were found": ifApart(
                wasSeen(now, vtcrPlace, found(now, Trail.VTCR)),
                wasSeen(now, pgdPlace, found(now, Trail.PGD)),
              ),
              "the walk comes here": ifApart(
                or(
                  ...steps.map((step) =>
                    and(eq(level, bv(step.level, 32)), step.reached, eq(step.slot, slot)),
                  ),
                ),
              ),
              "what led here was read": ifApart(
                ...steps
                  .slice(0, 3)
                  .map((step) =>
                    implies(
                      and(step.reached, ult(bv(step.level, 32), level)),
                      and(step.isRead, wasSeen(now, step.slot, step.entry)),
                    ),
                  ),
              ),
              "nothing was read of what is below": or(
                ult(trail(now, Trail.NOW), zext(level, 64)),
                ...[Trail.VTCR, Trail.PGD].map((n) => eq(trail(now, Trail.NOW), bv(n, 64))),
              ),
            };
          },
          variant: (now) => sub(bv(4, 32), now.locals[LEVEL] as Term),
          memories: { trail: "any" },
        },
      },
      ghost: {
        host_read64: (call: Call) => {
          const place = call.args[0] as Term;
          const level = call.state.locals[LEVEL] as Term;
          const [vtcrPlace] = sources(call.state, m, root);
          const source = ite(eq(place, vtcrPlace), bv(Trail.VTCR, 64), bv(Trail.PGD, 64));
          next(call.state, ite(ule(level, bv(3, 32)), zext(level, 64), source), place);
        },
      },
      atReturn: (state, [vm, ipa], leaf) =>
        write(state, "proposed", mappedKey(vmIndex(vm as Term), page(ipa as Term)), leaf as Term),
      spec(c) {
        const [vm, ipa] = c.args as [Term, Term];
        const { before } = c;
        const root = theVm(c, m, vm);
        c.require("LOCK_S2PAGE is held", ghost(before, "s2pageHeld"));
        const places = sources(before, m, root);
        for (const place of places)
          hostAccess({ state: before, oblige: (what, fact) => c.require(what, fact) }, m, place, 8);
        const read = (n: number) => c.choose(`word ${n}`, 64, (after) => found(after, n));
        const [vtcr, pgd] = [read(Trail.VTCR), read(Trail.PGD)];
        const steps = walkOf(before, m, [ipa, vtcr, pgd], [0, 1, 2, 3].map(read));
        const known = apart(...places);
        reads(c, places[0], vtcr, known);
        reads(c, places[1], pgd, known);
        for (const step of steps) reads(c, step.slot, step.entry, and(known, step.isRead));
        const leaf = c.result(64);
        c.ensure("it is what the host's tables say", implies(known, eq(leaf, leafOf(ipa, steps))));
        write(c.state, "proposed", mappedKey(root, page(ipa)), leaf);
        const level = extract(1, 0, leaf);
        const same = (bits: number) => eq(extract(bits - 1, 12, leaf), extract(bits - 1, 12, ipa));
        const some = ne(leaf, bv(0, 64));
        c.ensure("the page is the one in its block", implies(and(some, eq(level, bv(2, 2))), same(21)));
        c.ensure("the page is the one in its large block", implies(and(some, eq(level, bv(1, 2))), same(30)));
        c.can("a page is proposed", and(some, eq(level, bv(3, 2))));
        c.can("a block is proposed", and(some, eq(level, bv(2, 2))));
        c.can("nothing is proposed", not(some));
        return leaf;
      },
    },
  ];
}
