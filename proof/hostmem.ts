/** Memory of the host that the core finds by the host's own tables, and holds in place. */
import {
  add,
  and,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  copyState,
  eq,
  extract,
  implies,
  ite,
  type LoopContract,
  type Memory,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  uge,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { finds } from "./dialogue.ts";
import { countsAgree, countsFit, heldIsPinned } from "./invariants.ts";
import { lockFree, pagesOf, requireFree, touches } from "./lock.ts";
import {
  fitsPhysical,
  inRam,
  isPhysical,
  type Machine,
  memory,
  nothingStale,
  OWNER_HOST,
  ownerOf,
  page,
  pageAt,
  read,
  requireNothingStale,
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

const local = (state: State, index: number): Term => state.locals[index] as Term;

/** A loop over at most `MAX_PIN_PAGES` pages, counted by local `count`. */
const overPages = (count: number): Pick<LoopContract, "variant"> => ({
  variant: (now) => sub(bv(MAX_PIN_PAGES, 64), local(now, count)),
});

/** Whether the owner table has an entry of number `index`, 64 bits. */
const inTable = (m: Machine, index: Term): Term => ult(index, m.info("ramPages"));

/** Whether page `index` is one of the first `count` of those from `first` on; both 64 bits. */
const among = (index: Term, first: Term, count: Term): Term =>
  ult(zext(sub(index, extract(35, 0, first)), 64), count);

/** In a loop over the pages from local `first` on: the memory after `change` was added for as many as local `count` says. */
const counted =
  (name: "owner" | "pins", first: number, count: number, change: Term) =>
  (now: State, entry: State): Memory => {
    const [from, done] = [local(now, first), local(now, count)];
    return memory(entry, name).rewrite((index, old) => ite(among(index, from, done), add(old, change), old));
  };

const sameOffset = (a: Term, b: Term): Term => eq(extract(11, 0, a), extract(11, 0, b));

/** Number of pages that `size` bytes at `pa` touch, 64 bits. */
const pagesIn = (pa: Term, size: Term): Term => zext(pagesOf(pa, size), 64);

/** Starts a proof where LOCK_S2PAGE may be taken and no invalidation is under way. */
function mayPin(state: State): void {
  nothingStale(state);
  lockFree("s2pageHeld")(state);
}

/** Ghost code: every write of the owner table counts a pin more, or less. */
const countPin =
  (change: Term) =>
  ({ state, args }: Call): void => {
    const index = extract(35, 0, args[0] as Term);
    write(state, "pins", index, add(read(state, "pins", index), change));
  };

export function hostmemContracts({ m }: Core): Contract[] {
  /** In `pin`, if it says no: that the range is too large, or the page that was looked at last is not the host's. */
  const refusedRightly = (state: State): Term => {
    const [count, mine, first, pages] = [1, 2, 3, 4].map((n) => local(state, n)) as [Term, Term, Term, Term];
    const last = sub(add(first, count), bv(1, 64));
    const owner = ownerOf(read(state, "owner", extract(35, 0, last)));
    const isLast = and(ne(count, bv(0, 64)), ule(count, pages));
    return or(
      ne(mine, bv(0, 32)),
      ult(bv(MAX_PIN_PAGES, 64), pages),
      and(isLast, not(and(inTable(m, last), eq(owner, OWNER_HOST)))),
    );
  };
  return [
    {
      // The physical address that the host's own tables give for `va`, which may be any, or 0. PAR_EL1 keeps its value.
      function: "hostmem/translate",
      parameters: ["va"],
      spec(c) {
        const [va] = c.args as [Term];
        const found = c.result(64);
        const some = ne(found, bv(0, 64));
        finds(c, va, page(found));
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
        for (let n = 0; n < MAX_PIN_PAGES; n++) {
          const offset = bv(n, 36);
          const at = add(va, bv(n << 12, 64));
          finds(c, at, add(page(found), offset), and(some, ult(offset, pagesOf(found, size))));
        }
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
      given: mayPin,
      ghost: { s2page_write: countPin(bv(1, 40)) },
      uses: {
        "lock/release": (call, [pa, size]) => {
          const [count, , mine] = call.state.locals as Term[];
          const all = ite(ne(mine as Term, bv(0, 32)), pagesIn(pa as Term, size as Term), bv(0, 64));
          call.oblige("every page is counted, or none", eq(count as Term, all));
          call.oblige("what is the host's is pinned", refusedRightly(call.state));
        },
      },
      loops: {
        0: {
          ...overPages(1),
          invariant: (now) => {
            const [count, mine, first, pages] = [1, 2, 3, 4].map((n) => local(now, n)) as [
              Term,
              Term,
              Term,
              Term,
            ];
            const last = add(first, count);
            return {
              "it is found out, or not": ule(mine, bv(1, 32)),
              "what is refused is too large, or not the host's": refusedRightly(now),
              "what was looked at is RAM": implies(
                ne(mine, bv(0, 32)),
                and(
                  ule(count, pages),
                  ule(pages, bv(MAX_PIN_PAGES, 64)),
                  implies(ne(count, bv(0, 64)), and(inTable(m, first), ule(last, m.info("ramPages")))),
                ),
              ),
            };
          },
          everywhere: (head, entry) => {
            const now = copyState(head);
            const [count, mine, first] = [1, 2, 3].map((n) => local(now, n)) as [Term, Term, Term];
            return {
              "owners stay": {
                memory: "owner",
                at: (index) => eq(read(now, "owner", index), read(entry, "owner", index)),
              },
              "what was looked at is the host's": {
                memory: "owner",
                at: (index) => {
                  const owner = ownerOf(read(now, "owner", index));
                  const isHosts = and(ult(index, m.ramPages), eq(owner, OWNER_HOST));
                  return implies(and(ne(mine, bv(0, 32)), among(index, first, count)), isHosts);
                },
              },
            };
          },
          memories: { owner: "any" },
        },
        1: {
          ...overPages(0),
          invariant: (now) => {
            const [count, , mine, , pages] = now.locals as Term[];
            const most = ite(ne(mine as Term, bv(0, 32)), pages as Term, bv(0, 64));
            return { "only what was looked at is counted": ule(count as Term, most) };
          },
          memories: { owner: counted("owner", 3, 0, bv(1, 64)), pins: counted("pins", 3, 0, bv(1, 40)) },
        },
      },
      atReturn: (state, [pa, size], result) => {
        const done = eq(result as Term, bv(1, 32));
        float(state, pa as Term, size as Term, 1, done);
        access(state, pa as Term, size as Term, 1, done);
      },
      spec(c) {
        const [pa, size] = c.args as [Term, Term];
        c.require("stage 1 gave the address", ne(pa, bv(0, 64)));
        requireSize(c, size);
        requireNothingStale(c);
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
      given: mayPin,
      ghost: {
        "lock/acquire": ({ state }: Call, [pa, size]) => access(state, pa as Term, size as Term, 0),
        s2page_read: (call: Call, [pa, size]) => {
          const index = extract(35, 0, call.args[0] as Term);
          call.assume(conserved(call.state, m, pa as Term, size as Term, index));
        },
        s2page_write: countPin(bv(-1, 40)),
      },
      uses: {
        "lock/release": (call, [pa, size]) => {
          call.assume(conserved(call.state, m, pa as Term, size as Term, bv(0, 36)));
          const pages = pagesIn(pa as Term, size as Term);
          call.oblige("every page is counted down", eq(local(call.state, 0), pages));
        },
      },
      loops: {
        0: {
          ...overPages(0),
          invariant: (now) => ({
            "there are no more than can be": ule(local(now, 0), bv(MAX_PIN_PAGES, 64)),
            "there are no more than the range has": ule(local(now, 0), local(now, 1)),
            "the first page is RAM": or(eq(local(now, 0), bv(0, 64)), inTable(m, local(now, 2))),
          }),
          everywhere: (head, entry) => {
            const now = copyState(head);
            return {
              "only counts change": {
                memory: "owner",
                at: (index) => eq(ownerOf(read(now, "owner", index)), ownerOf(read(entry, "owner", index))),
              },
              "pages not yet counted down stay": {
                memory: "owner",
                at: (index) =>
                  or(
                    among(index, local(now, 2), local(now, 0)),
                    and(
                      eq(read(now, "owner", index), read(entry, "owner", index)),
                      eq(read(now, "pins", index), read(entry, "pins", index)),
                    ),
                  ),
              },
              "the others are, once": {
                memory: "pins",
                at: (index) => {
                  const less = sub(read(entry, "pins", index), bv(1, 40));
                  return implies(
                    among(index, local(now, 2), local(now, 0)),
                    eq(read(now, "pins", index), less),
                  );
                },
              },
              "counts agree": { memory: "owner", at: (index) => countsAgree(now, m, index) },
              "counts fit": { memory: "pins", at: (index) => countsFit(now, index) },
              "what is held in place is pinned": {
                memory: "pins",
                at: (index) => heldIsPinned(now, m, index),
              },
            };
          },
          memories: { owner: "any", pins: "any" },
        },
      },
      atReturn: (state, [pa, size]) => float(state, pa as Term, size as Term, -1),
      spec(c) {
        const [pa, size] = c.args as [Term, Term];
        requireSize(c, size);
        requireNothingStale(c);
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
