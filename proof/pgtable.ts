/**
 * Walking and extending a tree of tables: what is found stands where the address says, and nothing that is mapped changes.
 *
 * A slot is the address of an entry with its level in the two low bits, as `walk` and `reach` return it.
 */
import {
  add,
  and,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  type LoopContract,
  type LoopSpec,
  ne,
  not,
  or,
  type State,
  shl,
  sub,
  type Term,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { leafLives, leafOwned, linked, rootLevel } from "./invariants.ts";
import { perform, ptWrite, vttbrOf } from "./machine.ts";
import {
  address,
  anyOffset,
  anySlot,
  arbitraryState,
  comparedEntry,
  covers,
  failsExhausted,
  ghost,
  HOST_ROOT,
  holds,
  inTree,
  isAligned,
  isMine,
  isNobodys,
  isOrdinary,
  isPhysical,
  isTableEntry,
  isValid,
  isValidLeaf,
  known,
  type Machine,
  memory,
  nothingStale,
  only,
  type Place,
  page,
  placeAt,
  positionKey,
  read,
  requireNothingStale,
  rewrite,
  rootLocked,
  rootOf,
  rootPage,
  Stale,
  setGhost,
  startLevel,
  tree,
  Use,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** Entry that a slot names, as address[47:3], and the slot's level. */
export const slotKey = (slot: Term): Term => extract(47, 3, slot);
export const slotLevel = (slot: Term): Term => extract(1, 0, slot);

/** Whether the entry at `key` of a tree of `root` stands at `level` and translates input page `x`. */
export function standsAt(state: State, key: Term, root: Term, level: Term, x: Term): Term {
  const place = placeAt(state, key);
  return and(eq(place.use, tree(root)), eq(place.level, level), covers(place, x));
}

/** Whether `slot` is a slot of the tree of `root` for input page `x`. */
export function isSlot(state: State, slot: Term, root: Term, x: Term): Term {
  return and(
    isPhysical(slot),
    eq(extract(2, 2, slot), bv(0, 1)),
    standsAt(state, slotKey(slot), root, slotLevel(slot), x),
  );
}

/** Whether the input address is in the range of a root for `ipaBits`, and the root starts where that says. */
export function inRange(state: State, m: Machine, root: Term, ipaBits: Term, ipa: Term): Term {
  const wide = ule(bv(41, 64), ipaBits);
  return and(
    ule(ipaBits, bv(48, 64)),
    isPhysical(ipa),
    or(wide, eq(extract(47, 40, ipa), bv(0, 8))),
    eq(rootLevel(state, m, root), startLevel(ipaBits)),
  );
}

/** A level as a local of the code: 32 bits, at most 3. */
export const narrow = (level: Term): Term => extract(1, 0, level);

/** What holds at the head of a loop that goes down from the root: the slot stands at the level. */
export function downLoop(
  root: (entry: State) => Term,
  locals: { level: number; slot: number; ipa: number; target: number },
): LoopSpec {
  const at = (state: State, index: number) => state.locals[index] as Term;
  return {
    invariant: (now, entry) => {
      const level = at(now, locals.level);
      const slot = at(now, locals.slot);
      const x = page(at(entry, locals.ipa));
      return {
        "the level is one of the tree's": ule(level, bv(3, 32)),
        "the level is not past the target": ule(level, at(entry, locals.target)),
        "the slot is an entry": and(isPhysical(slot), eq(extract(2, 0, slot), bv(0, 3))),
        "the slot stands at the level": standsAt(now, slotKey(slot), root(entry), narrow(level), x),
      };
    },
    variant: (now) => sub(bv(4, 32), at(now, locals.level)),
  };
}

export function pgtableContracts({ m }: Core): Contract[] {
  return [
    {
      // Takes a leaf away: no walk and no TLB finds it any more.
      function: "pgtable/clearEntry",
      parameters: ["slot", "vttbr", "ipa"],
      given: nothingStale,
      spec(c) {
        const [slot, vttbr, ipa] = c.args as [Term, Term, Term];
        const place = placeAt(c.before, slotKey(slot));
        requireNothingStale(c);
        c.require("it is an entry of a tree", and(isAligned(slot, 3), isPhysical(slot), inTree(place.use)));
        c.require("it is no table", not(isTableEntry(place.entry, place.level)));
        c.require("the address is one that it translates", and(isPhysical(ipa), covers(place, page(ipa))));
        c.require("it is VTTBR_EL2 of the root", eq(vttbr, vttbrOf(m, rootOf(place.use))));
        perform(c, ptWrite(m), slot, bv(0, 64));
        setGhost(c.state, "stale", Stale.NO);
        setGhost(c.state, "unordered", FALSE);
      },
    },
    splitBlock(m),
    {
      // The entry for `ipa` at `target`, making the tables above it where there are none, or the block in the way; 0, with no mapping
      // changed, when the pool is empty.
      function: "pgtable/reach",
      parameters: ["root", "start", "ipa", "target"],
      given: nothingStale,
      uses: {
        pt_read: (call: Call) => {
          for (const key of [slotKey(call.args[0] as Term), comparedEntry])
            call.assume(linked(call.state, m, extract(44, 9, key)));
        },
        pt_write: (call: Call, [root]) => {
          const [pa, entry] = call.args as [Term, Term];
          known(call, "use", page(entry), Use.TAKEN);
          known(call, "use", page(pa), tree(extract(20, 13, root as Term)));
          known(call, "pt", extract(47, 3, pa), bv(0, 64));
        },
      },
      loops: { 0: reachLoop(m) },
      spec(c) {
        const [rootAddress, start, ipa, target] = c.args as [Term, Term, Term, Term];
        const root = extract(20, 13, rootAddress);
        c.require("it is a root", eq(rootAddress, address(rootPage(m, root))));
        c.require("it starts at its level", eq(start, zext(rootLevel(c.before, m, root), 32)));
        return reachSpec(c, m, root, ipa, target);
      },
    },
  ];
}

/** What a function promises that finds the entry for `ipa` at `target` in the tree of `root`, making the tables above it. */
export function reachSpec(c: Clause, m: Machine, root: Term, ipa: Term, target: Term): Term {
  const { before, state } = c;
  const x = page(ipa);
  const start = zext(rootLevel(before, m, root), 32);
  requireNothingStale(c);
  c.require("the root's lock is held", rootLocked(before, root));
  c.require("the VM exists", or(eq(root, HOST_ROOT), holds(before, "alive", root)));
  c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
  c.require("the address is in the root's range", addressFits(before, m, root, ipa));
  c.require("the target is a level of the tree", and(ule(target, bv(3, 32)), ule(start, target)));
  c.requireAll("nothing is retained on the way", "pt", (key) => settled(before, root, x, key));
  const result = c.result(64);
  extendTree(c, m, root, x);
  const entry = read(state, "pt", slotKey(result));
  const some = ne(result, bv(0, 64));
  c.ensureAll("nothing is retained on the way", "pt", (key, now) => settled(now, root, x, key));
  c.ensureAll("the entries above it are tables", "pt", (key, now) =>
    implies(some, tablesAbove(now, m, root, x, slotLevel(result), key)),
  );
  c.ensureAll("no leaf is made", "pt", (key, now) => noNewLeaf(before, now, root, x, key));
  c.ensure("it is a slot for the address", implies(some, isSlot(state, result, root, x)));
  c.ensure("it is not below the target", implies(some, ule(slotLevel(result), narrow(target))));
  c.ensure(
    "it is at the target, or a block",
    implies(some, or(eq(slotLevel(result), narrow(target)), isValidLeaf(entry, slotLevel(result)))),
  );
  failsExhausted(c, not(some));
  c.can("the target is reached", and(some, eq(slotLevel(result), bv(3, 2))));
  c.can("a block is in the way", and(some, ult(slotLevel(result), narrow(target))));
  c.can("the pool is empty", not(some));
  return result;
}

/** The block at `slot` becomes a table of 512 leaves that map the same; false, with nothing changed, when the pool is empty. */
function splitBlock(m: Machine): Contract {
  const place = (slot: Term) => placeAt(arbitraryState(), slotKey(slot));
  /** Leaf `index` (9 bits) of those that a block of level 1 or 2 becomes. */
  const part = (block: Term, level: Term, index: Term) =>
    ite(
      eq(level, bv(1, 2)),
      add(block, concat(bv(0, 34), index, bv(0, 21))),
      add(bor(block, bv(2, 64)), concat(bv(0, 43), index, bv(0, 12))),
    );
  return {
    function: "pgtable/splitBlock",
    parameters: ["slot", "level", "vttbr", "ipa"],
    given: nothingStale,
    uses: {
      pt_write: (call: Call, [slot, level]) => {
        const [pa, entry] = call.args as [Term, Term];
        if (!call.caller.endsWith("setEntry")) {
          known(call, "use", page(pa), Use.TAKEN);
          return;
        }
        known(call, "use", page(entry), Use.TAKEN);
        known(call, "use", page(pa), tree(rootOf(place(slot as Term).use)));
        known(call, "level", page(pa), narrow(level as Term));
        known(call, "pt", slotKey(pa), bv(0, 64));
      },
      "pgtable/clearEntry": (call: Call, [slot, level]) => {
        known(call, "use", page(slot as Term), tree(rootOf(place(slot as Term).use)));
        known(call, "level", page(slot as Term), narrow(level as Term));
      },
    },
    loops: {
      0: {
        invariant: (now) => ({
          "no more than the table is written": ule(now.locals[4] as Term, bv(512, 64)),
        }),
        variant: (now) => sub(bv(512, 64), now.locals[4] as Term),
        memories: {
          pt: (now, entry) => {
            const [count, table, leaf, size] = now.locals.slice(4, 8) as [Term, Term, Term, Term];
            return memory(entry, "pt").rewrite((key, old) => {
              const index = zext(extract(8, 0, key), 64);
              const written = and(eq(extract(44, 9, key), page(table)), ult(index, count));
              return ite(written, add(leaf, shl(index, size)), old);
            });
          },
          use: (_, entry) => memory(entry, "use"),
        },
        ghosts: { unordered: "any" },
      },
    },
    spec(c) {
      const [slot, level, vttbr, ipa] = c.args as [Term, Term, Term, Term];
      const { before, state } = c;
      const key = slotKey(slot);
      const { use, level: at, first, entry } = placeAt(before, key);
      const root = rootOf(use);
      const below = add(at, bv(1, 2));
      requireNothingStale(c);
      c.require("it is an entry of a tree", and(isAligned(slot, 3), isPhysical(slot), inTree(use)));
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("LOCK_S2PAGE is held", ghost(before, "s2pageHeld"));
      c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
      c.require("the tree is the host's or a private VM's", not(isOrdinary(before, root)));
      c.require("it stands at the level, above the last", and(eq(level, zext(at, 32)), ne(at, bv(3, 2))));
      c.require("it is a block", isValidLeaf(entry, at));
      c.require(
        "the address is one that it translates",
        and(isPhysical(ipa), covers({ level: at, first }, page(ipa))),
      );
      c.require("it is VTTBR_EL2 of the root", eq(vttbr, vttbrOf(m, root)));
      const offset = ite(
        eq(at, bv(1, 2)),
        concat(bv(0, 18), anySlot, extract(8, 0, anyOffset)),
        zext(anySlot, 36),
      );
      c.recall((s) => and(leafOwned(s, m, key, offset), leafLives(s, m, key, offset)));
      const result = c.result(32);
      const done = eq(result, bv(1, 32));
      const table = c.choose("table", 36, (after) => page(read(after, "pt", key)));
      c.ensure("it says whether it is done", ule(result, bv(1, 32)));
      c.ensure("the table was nobody's", implies(done, isNobodys(before, m, table)));
      rewrite(
        state,
        "pt",
        (k) => eq(extract(44, 9, k), table),
        (k) => part(entry, at, extract(8, 0, k)),
        done,
      );
      write(state, "pt", key, concat(bv(0, 16), table, bv(3, 12)), done);
      write(state, "use", table, use, done);
      write(state, "level", table, below, done);
      write(state, "base", table, first, done);
      write(state, "parent", table, key, done);
      write(state, "position", positionKey(root, below, first), table, done);
      rewrite(
        state,
        "paged",
        (y) => covers({ level: at, first }, y),
        () => bv(1, 1),
        and(done, eq(root, HOST_ROOT), eq(at, bv(2, 2))),
      );
      for (const name of ["unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
      failsExhausted(c, not(done));
      c.can("a block of level 1 is split", and(done, eq(at, bv(1, 2))));
      c.can("a block of level 2 is split", and(done, eq(at, bv(2, 2))));
      c.can("the pool is empty", not(done));
      return result;
    },
  };
}

/** Whether the entry at `key`, if it is above level 3 on the way to `x`, is not retained. */
export function settled(state: State, root: Term, x: Term, key: Term): Term {
  const place = placeAt(state, key);
  const onTheWay = and(eq(place.use, tree(root)), ne(place.level, bv(3, 2)), covers(place, x));
  return implies(onTheWay, or(eq(place.entry, bv(0, 64)), isValid(place.entry)));
}

/** Whether the entry at `key`, if it is on the way to `x` and above `level` (2 bits), is a table. */
function tablesAbove(state: State, m: Machine, root: Term, x: Term, level: Term, key: Term): Term {
  const place = placeAt(state, key);
  const inside = and(ule(rootLevel(state, m, root), place.level), ult(place.level, level));
  const isAbove = and(eq(place.use, tree(root)), inside, covers(place, x));
  return implies(isAbove, isTableEntry(place.entry, place.level));
}

/** Whether the entry at `key`, if it is a leaf on the way to `x` now, was one before. */
function noNewLeaf(before: State, now: State, root: Term, x: Term, key: Term): Term {
  const place = placeAt(now, key);
  const isLeaf = and(
    eq(place.use, tree(root)),
    covers(place, x),
    ne(place.level, bv(3, 2)),
    isValidLeaf(place.entry, place.level),
  );
  const then = placeAt(before, key);
  return implies(
    isLeaf,
    and(eq(then.use, place.use), eq(then.level, place.level), eq(then.entry, place.entry)),
  );
}

/** Which entries on the way to a page a function may change. */
export type Changing = (place: Place) => Term;
/** Where a table goes that was missing. */
export const missing: Changing = ({ level, entry }) => and(ne(level, bv(3, 2)), eq(entry, bv(0, 64)));
/** Where a table goes that was missing, or takes the place of a block. */
export const noTable: Changing = ({ level, entry }) =>
  and(ne(level, bv(3, 2)), not(isTableEntry(entry, level)));
/** Where a table or a leaf goes where nothing was. */
export const empty: Changing = ({ entry }) => eq(entry, bv(0, 64));

/** What a function that makes tables on the way to `x` may change: entries on the way, and pages that were nobody's. */
export function extendTree(c: Clause, m: Machine, root: Term, x: Term, changing: Changing = missing): void {
  const { before } = c;
  const taken = (table: Term) => isNobodys(before, m, table);
  c.havoc("pt", (key) => {
    const place = placeAt(before, key);
    return or(and(eq(place.use, tree(root)), covers(place, x), changing(place)), taken(place.table));
  });
  for (const name of ["use", "level", "base", "parent"] as const) c.havoc(name, taken);
  c.havoc("paged", (y) => besides(root, x, y));
  c.ensureAll("the host's tables stay", "paged", (y, now) =>
    implies(holds(before, "paged", y), holds(now, "paged", y)),
  );
  c.havoc("position", (key) => eq(extract(46, 39, key), root));
  c.ensureAll("new tables are part of the tree", "use", (table, now) =>
    implies(
      taken(table),
      or(eq(read(now, "use", table), tree(root)), not(isMine(now, read(now, "use", table)))),
    ),
  );
  c.havocGhost("unordered");
}

/** Whether page `y` is in the 2 MiB around page `x`, and the root is the host's. */
export const besides = (root: Term, x: Term, y: Term): Term =>
  and(eq(root, HOST_ROOT), eq(extract(35, 9, y), extract(35, 9, x)));

/** Whether an address is in the range of a root, which may have two concatenated tables at level 1. */
export function addressFits(state: State, m: Machine, root: Term, ipa: Term): Term {
  const wide = eq(rootLevel(state, m, root), bv(0, 2));
  return and(isPhysical(ipa), or(wide, eq(extract(47, 40, ipa), bv(0, 8))));
}

function reachLoop(m: Machine): LoopContract {
  const root = (entry: State) => rootOf(read(entry, "use", page(entry.locals[4] as Term)));
  const down = downLoop(root, { level: 1, slot: 4, ipa: 2, target: 3 });
  const grows = growing(m, root, 2, missing);
  return {
    ...down,
    ...grows,
    everywhere: (now, entry) => ({
      "nothing is retained on the way": {
        memory: "pt",
        at: (key) => settled(now, root(entry), page(entry.locals[2] as Term), key),
      },
      "the entries above the slot are tables": {
        memory: "pt",
        at: (key) =>
          tablesAbove(now, m, root(entry), page(entry.locals[2] as Term), narrow(now.locals[1] as Term), key),
      },
      "no leaf is made": {
        memory: "pt",
        at: (key) => noNewLeaf(entry, now, root(entry), page(entry.locals[2] as Term), key),
      },
      ...grows.everywhere?.(now, entry),
    }),
  };
}

/** Of a loop that makes tables on the way to the address in local `ipa`: how the tree at its head differs from that at its entry. */
export function growing(
  m: Machine,
  root: (entry: State) => Term,
  ipa: number,
  changing: Changing,
): Pick<LoopContract, "everywhere" | "memories" | "ghosts"> {
  const at = (entry: State) => page(entry.locals[ipa] as Term);
  return {
    everywhere: (now, entry) => ({
      "new tables are part of the tree": {
        memory: "use",
        at: (table) => {
          const use = read(now, "use", table);
          return implies(isNobodys(entry, m, table), or(eq(use, tree(root(entry))), not(isMine(now, use))));
        },
      },
      "the host's tables stay": {
        memory: "paged",
        at: (y) => implies(holds(entry, "paged", y), holds(now, "paged", y)),
      },
    }),
    memories: {
      // Some entries on the way change, and pages that were nobody's; nothing else is mapped.
      pt: only("pt", (entry) => (key) => {
        const place = placeAt(entry, key);
        const onTheWay = and(eq(place.use, tree(root(entry))), covers(place, at(entry)));
        return or(and(onTheWay, changing(place)), isNobodys(entry, m, place.table));
      }),
      ...Object.fromEntries(
        (["use", "level", "base", "parent"] as const).map((name) => [
          name,
          only(name, (entry) => (table) => isNobodys(entry, m, table)),
        ]),
      ),
      position: only("position", (entry) => (key) => eq(extract(46, 39, key), root(entry))),
      paged: only("paged", (entry) => (y) => besides(root(entry), at(entry), y)),
      mapped: (_, entry) => memory(entry, "mapped"),
      refs: (_, entry) => memory(entry, "refs"),
    },
    ghosts: { unordered: "any" },
  };
}
