/** Nested page tables: walking and extending the tree of a VM, by the number of its slot. */
import {
  and,
  bv,
  type Clause,
  type Contract,
  eq,
  extract,
  ne,
  not,
  or,
  type Term,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { rootLevel } from "./invariants.ts";
import { downLoop, inRange, isSlot, narrow, reachSpec, slotKey, slotLevel } from "./pgtable.ts";
import { HOST_ROOT, hasTableBit, isValid, nothingStale, page, read, rootLocked, rootOf } from "./state.ts";
import type { Core } from "./theory.ts";

export function nptContracts({ m }: Core): Contract[] {
  /** The root that `slot` (32 bits) names, of a VM in whose range `ipa` is. */
  const rootFor = (c: Clause, slot: Term, ipaBits: Term, ipa: Term): Term => {
    const root = extract(7, 0, slot);
    c.require("the slot exists", ult(slot, bv(256, 32)));
    c.require("it is a VM's", ne(root, HOST_ROOT));
    c.require("the address is in the VM's range", inRange(c.before, m, root, ipaBits, ipa));
    return root;
  };
  return [
    {
      // The entry for `ipa` at `target`, or the first above it that is no table.
      function: "npt/nptWalk",
      parameters: ["slot", "ipaBits", "ipa", "target"],
      loops: {
        0: downLoop((entry) => rootOf(read(entry, "use", page(entry.locals[1] as Term))), {
          level: 0,
          slot: 1,
          ipa: 2,
          target: 3,
        }),
      },
      spec(c) {
        const [slot, ipaBits, ipa, target] = c.args as [Term, Term, Term, Term];
        const root = rootFor(c, slot, ipaBits, ipa);
        const start = zext(rootLevel(c.before, m, root), 32);
        c.require("the root's lock is held", rootLocked(c.before, root));
        c.require("the target is a level of the tree", and(ule(target, bv(3, 32)), ule(start, target)));
        const found = c.result(64);
        const entry = read(c.before, "pt", slotKey(found));
        c.ensure("it is a slot for the address", isSlot(c.before, found, root, page(ipa)));
        c.ensure("it is not below the target", ule(slotLevel(found), narrow(target)));
        c.ensure(
          "it is at the target, or no table",
          or(eq(slotLevel(found), narrow(target)), not(and(isValid(entry), hasTableBit(entry)))),
        );
        c.can("the target is reached", eq(slotLevel(found), bv(3, 2)));
        c.can("the walk ends early", eq(slotLevel(found), bv(1, 2)));
        return found;
      },
    },
    {
      // As `reach`, for VM slot `slot`.
      function: "npt/nptReach",
      parameters: ["slot", "ipaBits", "ipa", "target"],
      given: nothingStale,
      spec(c) {
        const [slot, ipaBits, ipa, target] = c.args as [Term, Term, Term, Term];
        const root = rootFor(c, slot, ipaBits, ipa);
        return reachSpec(c, m, root, ipa, target);
      },
    },
  ];
}
