/**
 * The host's stage 2: the identity, of its own pages and of devices.
 *
 * Tables are made on the way to an address and blocks split without a change to what is mapped; a page that is mapped anew is the host's,
 * or no RAM, and so is everything in the block around it.
 */

import type { Clause } from "../microv/index.ts";
import {
  add,
  and,
  bv,
  type Call,
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
  shl,
  sub,
  type Term,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { linked, rootLevel } from "./invariants.ts";
import { addressFits, empty, extendTree, growing, noTable, slotKey, standsAt } from "./pgtable.ts";
import {
  agrees,
  anyPage,
  comparedEntry,
  comparedPage,
  covers,
  entryKey,
  failsExhausted,
  ghost,
  goesDown,
  HOST_ROOT,
  holds,
  inRam,
  isAligned,
  isHosts,
  isPhysical,
  isTableEntry,
  isValidLeaf,
  known,
  type Machine,
  mappedKey,
  nothingStale,
  page,
  placeAt,
  read,
  requireNothingStale,
  someOffset,
  tree,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** What both functions ask: the locks, an address in the host's range, and that no invalidation is under way. */
function atHostmap(c: Clause, m: Machine, ipa: Term): void {
  const { before } = c;
  requireNothingStale(c);
  c.require("LOCK_HOSTMAP is held", ghost(before, "hostmapHeld"));
  c.require("LOCK_S2PAGE is held", ghost(before, "s2pageHeld"));
  c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
  c.require("the address is in the host's range", addressFits(before, m, HOST_ROOT, ipa));
}

/** All of a leaf but its address and its two low bits, as in the Arm ARM, D8.3.2. */
const attributesOf = (leaf: Term): Term => concat(extract(63, 48, leaf), extract(11, 2, leaf));
const ACCESSED = 1 << 8;
const READ_WRITE = 3 << 4;
/** Inner shareable and write-back; Device-nGnRE. */
const MEMORY = bv(ACCESSED | READ_WRITE | (3 << 6) | 0xf, 26);
const DEVICE = bv(ACCESSED | READ_WRITE | 1, 26);

/** Whether a block of level 1 or 2 around page `x` (36 bits) may be mapped: nothing there is the core's, and all of it is RAM, or nothing. */
function mayBeBlock(m: Machine, level: 1 | 2, x: Term): Term {
  const bits = level === 1 ? 30 : 21;
  const base = concat(bv(0, 16), extract(35, bits - 12, x), bv(0, bits));
  const end = add(base, bv(2 ** bits, 64));
  const range = (name: "core" | "ram") => {
    const first = m.info(`${name}Base`);
    return { first, end: add(first, shl(m.info(`${name}Pages`), bv(12, 64))) };
  };
  const [core, ram] = [range("core"), range("ram")];
  const meets = (other: { first: Term; end: Term }) => and(ult(base, other.end), ult(other.first, end));
  const isRam = and(ule(ram.first, base), ule(end, ram.end));
  return and(not(meets(core)), or(not(meets(ram)), isRam));
}

/** Whether the host's tree needs a table just above `level` (32 bits) for page `x`: there is one, or a block may not be mapped in its place. */
function needsTable(state: State, m: Machine, level: Term, x: Term): Term {
  const above = ([1, 2] as const).map((number) => {
    const at = bv(number, 2);
    const entry = read(state, "pt", entryKey(state, HOST_ROOT, number, x));
    const isAsked = and(eq(level, bv(number + 1, 32)), ule(rootLevel(state, m, HOST_ROOT), at));
    return implies(isAsked, or(isTableEntry(entry, at), not(mayBeBlock(m, number, x))));
  });
  return and(...above);
}

export function hostmapContracts({ m }: Core): Contract[] {
  const host = () => HOST_ROOT;
  const local = (state: State, index: number) => state.locals[index] as Term;
  return [
    {
      // The address of the entry of `level` for `ipa`, with tables above it and blocks split, nothing else mapped; 0 when the pool is empty.
      function: "hostmap/hostmapReach",
      parameters: ["ipa", "level"],
      given: nothingStale,
      uses: {
        "pgtable/splitBlock": (call: Call) => {
          for (const key of [slotKey(call.args[0] as Term), comparedEntry])
            call.assume(linked(call.state, m, extract(44, 9, key)));
        },
      },
      loops: {
        0: (() => {
          const grows = growing(m, host, 0, noTable);
          return {
            ...grows,
            ghosts: { ...grows.ghosts, staleLevel: "any", staleTable: "any" },
            invariant: (now: State) => ({ "three tries are enough": ult(local(now, 3), bv(3, 32)) }),
            variant: (now: State) => sub(bv(3, 32), local(now, 3)),
            everywhere: (now: State, entry: State) => ({
              ...grows.everywhere?.(now, entry),
              "each try gets a level further": {
                memory: "pt",
                at: (key: Term) => {
                  const place = placeAt(now, key);
                  const above = and(
                    eq(place.use, tree(HOST_ROOT)),
                    covers(place, page(local(entry, 0))),
                    ule(zext(place.level, 32), local(now, 3)),
                    ult(place.level, bv(3, 2)),
                  );
                  return implies(above, not(isValidLeaf(place.entry, place.level)));
                },
              },
            }),
          };
        })(),
      },
      spec(c) {
        const [ipa, level] = c.args as [Term, Term];
        const { state } = c;
        atHostmap(c, m, ipa);
        c.require("the level is 2 or 3", or(eq(level, bv(2, 32)), eq(level, bv(3, 32))));
        const result = c.result(64);
        extendTree(c, m, HOST_ROOT, page(ipa), noTable);
        for (const name of ["staleLevel", "staleTable"]) c.havocGhost(name);
        const some = ne(result, bv(0, 64));
        failsExhausted(c, not(some));
        c.ensure("it is an address, or nothing", and(isAligned(result, 3), isPhysical(result)));
        c.ensure(
          "it is the entry of the level for the address",
          implies(some, standsAt(state, slotKey(result), HOST_ROOT, extract(1, 0, level), page(ipa))),
        );
        c.can("it is reached", some);
        c.can("the pool is empty", not(some));
        return result;
      },
    },
    {
      // Maps the page at `ipa` with the largest block that is the host's or no RAM. 1 when it is mapped now, 0 when the pool is empty.
      function: "hostmap/hostmapMap",
      parameters: ["ipa"],
      given: nothingStale,
      uses: {
        pt_read: (call: Call, [ipa]) => {
          for (const key of [slotKey(call.args[0] as Term), comparedEntry]) {
            call.assume(agrees(call.state, key, page(ipa as Term)));
            call.assume(linked(call.state, m, extract(44, 9, key)));
          }
        },
        "pgtable/reach": ({ state, args, oblige }: Call, [ipa]) =>
          oblige(
            "a table is made where a block may not be",
            needsTable(state, m, args[3] as Term, page(ipa as Term)),
          ),
        pt_write: (call: Call) => {
          const [pa, leaf] = call.args as [Term, Term];
          const key = slotKey(pa);
          known(call, "use", page(pa), tree(HOST_ROOT));
          known(call, "pt", key, bv(0, 64));
          const { level } = placeAt(call.state, key);
          for (const x of [add(page(leaf), someOffset(level)), comparedPage])
            call.assume(goesDown(call.state, key, x));
        },
      },
      loops: {
        0: {
          ...growing(m, host, 0, empty),
          invariant: (now, entry) => ({
            "the level is one of the tree's": ule(local(now, 1), bv(3, 32)),
            "it goes down": ule(local(entry, 1), local(now, 1)),
            "a table is needed above the level": needsTable(now, m, local(now, 1), page(local(entry, 0))),
          }),
          variant: (now) => sub(bv(4, 32), local(now, 1)),
        },
      },
      spec(c) {
        const [ipa] = c.args as [Term];
        const { before } = c;
        const x = page(ipa);
        atHostmap(c, m, ipa);
        c.require("the page is the host's, or no RAM", implies(inRam(m, x), isHosts(before, m, x)));
        const result = c.result(32);
        const done = eq(result, bv(1, 32));
        extendTree(c, m, HOST_ROOT, x, empty);
        c.havoc("mapped", (key) => and(done, eq(extract(43, 36, key), HOST_ROOT)));
        c.ensure("it says whether the page is mapped now", ule(result, bv(1, 32)));
        c.ensure("the page is mapped now", implies(done, holds(c.state, "mapped", mappedKey(HOST_ROOT, x))));
        c.ensureAll("what was mapped stays mapped", "mapped", (key, now) =>
          implies(
            and(eq(extract(43, 36, key), HOST_ROOT), holds(before, "mapped", key)),
            holds(now, "mapped", key),
          ),
        );
        c.ensureAll("what is mapped anew is the host's, or no RAM", "mapped", (key, now) => {
          const y = extract(35, 0, key);
          const fresh = and(
            eq(extract(43, 36, key), HOST_ROOT),
            holds(now, "mapped", key),
            not(holds(before, "mapped", key)),
          );
          return implies(and(fresh, inRam(m, y)), isHosts(before, m, y));
        });
        c.ensureAll(
          "memory is write-back, all else a device; the host may do everything there",
          "pt",
          (key, now) => {
            const place = placeAt(now, key);
            const maps = and(
              eq(place.use, tree(HOST_ROOT)),
              covers(place, x),
              isValidLeaf(place.entry, place.level),
            );
            const fresh = and(done, maps, not(holds(before, "mapped", mappedKey(HOST_ROOT, x))));
            // Of each page in the block, so that none is in part memory and in part devices.
            const attributes = ite(inRam(m, anyPage), MEMORY, DEVICE);
            return implies(and(fresh, covers(place, anyPage)), eq(attributesOf(place.entry), attributes));
          },
        );
        failsExhausted(c, not(done));
        c.can("it is mapped now", done);
        c.can("the pool is empty", not(done));
        return result;
      },
    },
  ];
}
