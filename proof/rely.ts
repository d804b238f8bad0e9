/**
 * What other CPUs do is what `acquire` grants: an entry that `stays` for a CPU, by the locks and records it holds, is left alone by every
 * primitive and every store of another CPU, used as demanded.
 *
 * A proof follows one CPU. Between two of its steps others take theirs, and the proof only lets them change what does not stay
 * (`othersRun` in `lock.ts`), at the moments when it takes a lock. That is sound for three reasons. No two CPUs hold the same lock or the
 * same vCPU record (`ticketlock.ts`). So what stays for one CPU no other may touch: that is the lemma of this file, for two arbitrary CPUs,
 * one that acts and one that looks on. And what a CPU reads where nothing stays, it may not read without the lock (obligations of
 * `machine.ts` and `linear.ts`), so it does not matter that the proof lets it change only when a lock is taken.
 *
 * The two CPUs share the machine's memories and most ghosts. Their own are: which locks and records they hold, their area, and which table
 * pages they have taken from the pool: what one has `TAKEN` is `OTHER` for the other.
 */
import {
  type Access,
  and,
  bv,
  concat,
  copyState,
  eq,
  extract,
  type Goal,
  implies,
  ite,
  Memory,
  ne,
  not,
  type Problem,
  type State,
  type Term,
  TRUE,
  variable,
} from "../microv/index.ts";
import { lemma } from "./lemma.ts";
import { staysAs, vmIndex } from "./linear.ts";
import { stays } from "./lock.ts";
import { run, tableFacts } from "./primitives.ts";
import {
  cpu,
  cpuArea,
  holds,
  isMine,
  type Machine,
  type MemoryName,
  memory,
  page,
  read,
  rewrite,
  Use,
} from "./state.ts";
import type { Core } from "./theory.ts";

const onlooker = variable("onlooker", 6);

/** Flags of what a CPU holds, and memories that are each CPU's own. */
const FLAGS = ["vmsHeld", "rootHeld", "hostmapHeld", "s2pageHeld", "poolHeld", "psciHeld"] as const;
const OWN = ["vcpuHeld", "vmHeld", "accessible"] as const;
/** Memories that CPUs share. Registers and FP/SIMD images are each CPU's own. */
const SHARED: readonly MemoryName[] = [
  "linear",
  "pt",
  "owner",
  "use",
  "level",
  "base",
  "parent",
  "position",
  "mapped",
  "paged",
  "refs",
  "pins",
  "zeroed",
  "cleaned",
  "rank",
  "atRank",
  "isPrivate",
  "handle",
  "alive",
];

const taken = Memory.arbitrary("onlooker's pages", 36, 1);
const hasTaken = (table: Term) => eq(taken.read(table), bv(1, 1));

/** The state of the machine as the onlooker sees it. */
function seenBy(state: State): State {
  const seen = copyState(state);
  for (const flag of FLAGS) seen.ghosts[flag] = variable(`onlooker's ${flag}`, 0);
  seen.ghosts.root = variable("onlooker's root", 8);
  for (const name of OWN) {
    const { keyWidth, valueWidth } = memory(state, name);
    seen.memories[name] = Memory.arbitrary(`onlooker's ${name}`, keyWidth, valueWidth);
  }
  rewrite(
    seen,
    "use",
    () => TRUE,
    (table, use) => ite(eq(use, Use.TAKEN), Use.OTHER, ite(hasTaken(table), Use.TAKEN, use)),
  );
  return seen;
}

/** The machine with the onlooker's area. */
const machineOfOnlooker = (m: Machine): Machine => ({
  ...m,
  area: cpuArea(m.layout, onlooker),
});

/** No lock and no vCPU record is held by both CPUs, and no table page taken by both. */
function apart(state: State, seen: State, vcpu: Term, tables: readonly Term[]): Term[] {
  const both = (flag: (typeof FLAGS)[number]) => and(state.ghosts[flag] as Term, seen.ghosts[flag] as Term);
  const sameRoot = eq(state.ghosts.root as Term, seen.ghosts.root as Term);
  return [
    ne(cpu, onlooker),
    ...FLAGS.map((flag) => not(flag === "rootHeld" ? and(both(flag), sameRoot) : both(flag))),
    not(and(holds(state, "vcpuHeld", vcpu), holds(seen, "vcpuHeld", vcpu))),
    ...tables.map((table) => implies(hasTaken(table), eq(read(state, "use", table), Use.OTHER))),
  ];
}

/** What stays for the onlooker is as it was after the primitive. */
function primitiveLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const keeps = stays(machineOfOnlooker(m));
  const before = theory.start();
  const seen = seenBy(before);
  const goals = core.primitives.flatMap(({ name, params }): Goal[] => {
    const args = params.map((width, n) => variable(`${name}.${n}`, width));
    const { after, demands } = run(core, name, before, args);
    const then = seenBy(after);
    const value = args[1]?.width === 64 ? page(args[1]) : bv(0, 36);
    const entry = args[0]?.width === 64 ? page(read(before, "pt", extract(47, 3, args[0]))) : bv(0, 36);
    const about = args[0]?.width === 64 ? page(args[0]) : bv(0, 36);
    return SHARED.flatMap((memoryName): Goal[] => {
      if (after.memories[memoryName] === before.memories[memoryName]) return [];
      const any = variable(`any ${memoryName}`, memory(before, memoryName).keyWidth);
      const table = any.width === 45 ? extract(44, 9, any) : any.width === 36 ? any : bv(0, 36);
      const tables = [about, value, entry, table];
      const path = and(
        ...demands,
        ...apart(before, seen, extract(13, 4, any.width === 29 ? any : bv(0, 29)), tables),
        ...tableFacts(core, before, args[0]?.width === 64 ? extract(47, 3, args[0]) : bv(0, 45), tables),
      );
      const same = eq(
        then.memories[memoryName]?.read(any) as Term,
        seen.memories[memoryName]?.read(any) as Term,
      );
      const goal: Goal = {
        name: `${name}: ${memoryName} stays`,
        path: and(path, keeps(seen, memoryName, any)),
        goal: same,
        reachable: false,
      };
      const mine = (state: State) => isMine(state, read(state, "use", any));
      return memoryName === "use"
        ? [
            goal,
            {
              name: `${name}: tables stay their CPU's`,
              path,
              goal: implies(not(mine(seen)), not(mine(then))),
            },
          ]
        : [goal];
    });
  });
  return { hypotheses: theory.hypotheses, goals };
}

/** What the actor may write of linear memory does not stay for the onlooker. */
function storeLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const before = theory.start();
  const seen = seenBy(before);
  const at = variable("address", 32);
  const demands: Term[] = [];
  const access = {
    state: copyState(before),
    memories: { ...before.memories },
    address: concat(extract(31, 3, at), bv(0, 3)),
    atomic: false,
    oblige: (_: string, goal: Term) => void demands.push(goal),
  } satisfies Access;
  theory.linear.store(access, variable("stored", 64));
  const key = extract(31, 3, at);
  const vcpu = extract(16, 7, at);
  return {
    hypotheses: [
      ...theory.hypotheses,
      ...demands,
      ...apart(before, seen, vcpu, []),
      implies(holds(seen, "vmHeld", vmIndex(at)), holds(before, "alive", vmIndex(at))),
    ],
    goals: [
      {
        name: "what one CPU may write no other relies on",
        path: TRUE,
        goal: not(staysAs(machineOfOnlooker(m))(seen, key)),
      },
    ],
  };
}

export const RELY_AXIOMS = [
  {
    name: "a VM of which a vCPU is held exists",
    reason:
      "tryAcquire grants it with the record (vcpuRecord), and a VM ends only after the CPU that ends it has held and freed every vCPU of it (contracts of vm.ts, under LOCK_VMS)",
  },
] as const;

/** @returns the lemmas of this file */
export function relyLemmas(core: Core): Problem[] {
  return [
    lemma("other CPUs' primitives leave alone what a CPU holds", () => primitiveLemma(core)),
    lemma("other CPUs' stores leave alone what a CPU holds", () => storeLemma(core)),
  ];
}
