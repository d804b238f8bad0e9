/** Memory of the host that the core finds by the host's own tables, and holds in place. */
import {
  add,
  and,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  ne,
  not,
  type State,
  sub,
  type Term,
  TRUE,
  uge,
  ule,
} from "../microv/index.ts";
import { lockFree, pagesOf, requireFree, touches } from "./lock.ts";
import {
  fitsPhysical,
  inRam,
  isPhysical,
  type Machine,
  OWNER_HOST,
  ownerOf,
  pageAt,
  read,
  rewrite,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** Largest structure that is pinned, in pages. */
const MAX_PIN_PAGES = 8;

/** Demands a size that a structure of the host may have: some bytes, and at most as many as can be pinned. */
function requireSize(c: Clause, size: Term): void {
  const most = bv(MAX_PIN_PAGES << 12, 64);
  c.require("the size is that of a structure", and(uge(size, bv(1, 64)), ule(size, most)));
}

/**
 * Pins are conserved: a page's pins are those that the pins in `floating` of every CPU and the records account for. So a pin that
 * floats counts in each of its pages, which are the host's as long as it does. Used under LOCK_S2PAGE of a page not yet counted down.
 */
function conserved(state: State, m: Machine, pa: Term, size: Term, index: Term): Term {
  const x = pageAt(m, index);
  const counted = and(
    inRam(m, x),
    eq(ownerOf(read(state, "owner", index)), OWNER_HOST),
    ne(read(state, "pins", index), bv(0, 40)),
  );
  const floats = ne(read(state, "floating", concat(pa, size)), bv(0, 8));
  const fits = and(ule(pagesOf(pa, size), bv(MAX_PIN_PAGES, 36)), fitsPhysical(pa, size));
  return implies(floats, and(fits, implies(touches(pa, size, x), counted)));
}

/** Ghost: one pin more or less of `size` bytes at `pa` floats. */
function float(state: State, pa: Term, size: Term, change: number, condition: Term = TRUE): void {
  const key = concat(pa, size);
  write(state, "floating", key, add(read(state, "floating", key), bv(change, 8)), condition);
}

/** Ghost: the pages of `size` bytes at `pa` are accessible now, or no longer. */
function access(state: State, pa: Term, size: Term, allowed: number, condition: Term = TRUE): void {
  rewrite(
    state,
    "accessible",
    (x) => touches(pa, size, x),
    () => bv(allowed, 1),
    condition,
  );
}

const sameOffset = (a: Term, b: Term): Term => eq(extract(11, 0, a), extract(11, 0, b));

/** Ghost code: every write of the owner table counts a pin more, or less. */
const countPin =
  (change: Term) =>
  ({ state, args }: Call): void => {
    const index = extract(35, 0, args[0] as Term);
    write(state, "pins", index, add(read(state, "pins", index), change));
  };

export function hostmemContracts({ m }: Core): Contract[] {
  return [
    {
      // The physical address that the host's own tables give for `va`, which may be any, or 0. PAR_EL1 keeps its value.
      function: "hostmem/translate",
      parameters: ["va"],
      spec(c) {
        const [va] = c.args as [Term];
        const found = c.result(64);
        const some = ne(found, bv(0, 64));
        c.ensure("it is a physical address", isPhysical(found));
        c.ensure("it has the offset in its page", implies(some, sameOffset(found, va)));
        c.can("there is one", some);
        c.can("there is none", not(some));
        return found;
      },
    },
    {
      // As `translate` for `size` bytes that are contiguous in physical memory; whose they are is for `pin` to find out.
      function: "hostmem/translateRange",
      parameters: ["va", "size"],
      spec(c) {
        const [va, size] = c.args as [Term, Term];
        requireSize(c, size);
        const found = c.result(64);
        const some = ne(found, bv(0, 64));
        const last = sub(add(found, size), bv(1, 64));
        c.ensure("all of it is physical memory", and(isPhysical(found), implies(some, isPhysical(last))));
        c.ensure("it has the offset in its page", implies(some, sameOffset(found, va)));
        c.ensure("it may be pinned", implies(some, ule(pagesOf(found, size), bv(MAX_PIN_PAGES, 36))));
        c.can("there is one", some);
        c.can("there is none", not(some));
        return found;
      },
    },
    {
      // Holds the pages that `size` bytes at `pa` touch in place, if all of them are the host's; or says no.
      function: "hostmem/pin",
      parameters: ["pa", "size"],
      given: lockFree("s2pageHeld"),
      ghost: { s2page_write: countPin(bv(1, 40)) },
      atReturn: (state, [pa, size], result) => {
        const done = eq(result as Term, bv(1, 32));
        float(state, pa as Term, size as Term, 1, done);
        access(state, pa as Term, size as Term, 1, done);
      },
      spec(c) {
        const [pa, size] = c.args as [Term, Term];
        requireSize(c, size);
        requireFree(c, "s2pageHeld");
        const result = c.result(32);
        const done = eq(result, bv(1, 32));
        c.ensure("it says whether they are pinned", ule(result, bv(1, 32)));
        c.ensure("what is pinned is physical memory", implies(done, fitsPhysical(pa, size)));
        float(c.state, pa, size, 1, done);
        access(c.state, pa, size, 1, done);
        c.can("they are pinned", done);
        c.can("they are not", not(done));
        return result;
      },
    },
    {
      // Takes back a pin that no record accounts for: its pages are no longer held in place by it.
      function: "hostmem/unpin",
      parameters: ["pa", "size"],
      given: lockFree("s2pageHeld"),
      ghost: {
        "lock/acquire": ({ state }: Call, [pa, size]) => access(state, pa as Term, size as Term, 0),
        s2page_read: (call: Call, [pa, size]) => {
          const index = extract(35, 0, call.args[0] as Term);
          call.assume(conserved(call.state, m, pa as Term, size as Term, index));
        },
        s2page_write: countPin(bv(-1, 40)),
      },
      atReturn: (state, [pa, size]) => float(state, pa as Term, size as Term, -1),
      spec(c) {
        const [pa, size] = c.args as [Term, Term];
        requireSize(c, size);
        requireFree(c, "s2pageHeld");
        c.require("there is such a pin", ne(read(c.before, "floating", concat(pa, size)), bv(0, 8)));
        float(c.state, pa, size, -1);
        access(c.state, pa, size, 0);
        c.can("it returns", TRUE);
      },
    },
  ];
}

/** What the proofs about host memory take from mathematics. */
export const HOSTMEM_AXIOMS = [
  {
    name: "pins are counted",
    reason:
      "pins(x) is the number of pins that hold page x in place: `pin` and `unpin` change it in each page as they change what floats, and what floats becomes a record's pin, or ceases to be one, one for one (`vm.ts`). A number of pins is at least 1 where there is one, and at most the number of records and CPUs, which fits a count",
  },
] as const;
