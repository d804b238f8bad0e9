/** Table pages: a page that is allocated is zero and nobody else's; a page that is given back is reached by no walk. */
import {
  and,
  bv,
  type Call,
  type Contract,
  eq,
  extract,
  implies,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  ult,
} from "../microv/index.ts";
import { field } from "./layout.ts";
import {
  address,
  failsExhausted,
  ghost,
  isAligned,
  isDetached,
  isNobodys,
  isPhysical,
  known,
  page,
  read,
  rewrite,
  rootLocked,
  rootOf,
  Stale,
  setGhost,
  tlbRoot,
  Use,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

export function poolContracts({ m }: Core): Contract[] {
  const at = (name: string) => m.layout.constant("CORE_STATE") + field.core(name);
  const free = (state: State) => extract(35, 0, word(state, at("poolFree")));

  return [
    {
      // A table page full of zeroes that is this CPU's alone, or 0 when none is left.
      function: "pool/poolAlloc",
      ghost: {
        // The head is free, and leaves the list: it had the highest place.
        pt_read: (call: Call) => known(call, "use", page(call.args[0] as Term), Use.FREE),
        pt_write: ({ state, args }: Call) => write(state, "use", page(args[0] as Term), Use.TAKEN),
        "lock/release": ({ state }: Call) =>
          setGhost(state, "exhausted", eq(word(state, at("poolHead")), bv(0, 64))),
      },
      spec(c) {
        const { before, state } = c;
        c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
        const result = c.result(64);
        const table = page(result);
        const some = ne(result, bv(0, 64));
        c.ensure("it is a page, or nothing", eq(result, address(table)));
        c.ensure("it was nobody's", implies(some, isNobodys(before, m, table)));
        const inPool = ult(sub(table, page(m.info("poolBase"))), extract(35, 0, m.info("poolPages")));
        c.ensure("it lies in the pool", implies(some, inPool));
        failsExhausted(c, not(some));
        c.can("a page is left", some);
        c.can("none is left", not(some));
        rewrite(
          state,
          "pt",
          (key) => and(some, eq(extract(44, 9, key), table)),
          () => bv(0, 64),
        );
        write(state, "use", table, Use.TAKEN, some);
        c.havocGhost("unordered");
        c.ensure("zeroes may not be seen yet", or(not(some), ghost(state, "unordered")));
        return result;
      },
    },
    {
      // Takes back a page of this CPU's, or one unlinked from a tree that no walk can still reach.
      function: "pool/poolFree",
      parameters: ["table"],
      spec(c) {
        const [pa] = c.args as [Term];
        const { before, state } = c;
        const table = page(pa);
        const use = read(before, "use", table);
        c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
        c.require("it is a page", and(isAligned(pa, 12), isPhysical(pa), ne(table, bv(0, 36))));
        c.require(
          "it is linked nowhere",
          or(eq(use, Use.TAKEN), and(isDetached(use), rootLocked(before, rootOf(use)))),
        );
        c.require(
          "no walk reaches it",
          or(not(isDetached(use)), ne(tlbRoot, rootOf(use)), eq(ghost(before, "stale"), Stale.NO)),
        );
        c.requireAll("it maps nothing", "pt", (key) =>
          implies(eq(extract(44, 9, key), table), eq(read(before, "pt", key), bv(0, 64))),
        );
        write(state, "use", table, Use.FREE);
        c.havocGhost("unordered");
      },
      ghost: {
        // The page becomes the list's, at the place after the last.
        pt_write: ({ state, args }: Call) => {
          const table = page(args[0] as Term);
          const place = addOne(free(state));
          write(state, "use", table, Use.FREE);
          write(state, "rank", table, place);
          write(state, "atRank", place, table);
        },
      },
    },
  ];
}

function addOne(count: Term): Term {
  return sub(count, bv(-1, 36));
}
