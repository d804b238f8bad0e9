/**
 * The locks themselves: at most one CPU holds a lock, and the code of `kcore/lock.ts` does what `lock.ts` grants the rest of the proof.
 *
 * A ticket lock is two words: `next`, the next ticket, and `serving`, the ticket whose turn it is. CPUs take these steps, each one
 * atomic operation: *take* a ticket, *see* that it is served (and hold the lock from then on), *give* the lock on. Three things are shown:
 * every step of every CPU keeps the invariant, at an arbitrary pair of CPUs; the invariant lets one CPU at most hold the lock; and the
 * wasm of `acquire` and `release` takes exactly these steps while the others take any number of theirs before each of its accesses.
 *
 * Tickets have 32 bits and wrap around. That is sound as long as less than 2^32 tickets are out: each is a different CPU's, and there are
 * 64 CPUs (the axiom `tickets fit` is the pigeonhole principle). So tickets are compared by their distance from `serving`.
 *
 * The rely: between two accesses of a CPU the others change `next` and `serving` only as `rely` says. That each of their steps does so
 * is a lemma; a sequence of steps does, because what `rely` says holds of no step at all and of two in a row.
 */
import {
  type Access,
  add,
  and,
  bv,
  concat,
  Executor,
  eq,
  extract,
  FALSE,
  functionNamed,
  type Goal,
  implies,
  instructions,
  ite,
  type LinearMemory,
  Memory,
  type Module,
  ne,
  not,
  or,
  type Problem,
  type State,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
  variable,
} from "../microv/index.ts";
import { field, layoutOf } from "./layout.ts";
import { lemma } from "./lemma.ts";

const MAX_CPUS = 64;
const Phase = { IDLE: bv(0, 2), WAITING: bv(1, 2), HOLDING: bv(2, 2) };
const one = bv(1, 32);

/** A lock, and where each CPU stands with it. */
interface Lock {
  readonly next: Term;
  readonly serving: Term;
  /** By CPU: its phase and its ticket. */
  readonly phase: Memory;
  readonly ticket: Memory;
  /** By ticket: the CPU that has it. */
  readonly holder: Memory;
}

function arbitraryLock(): Lock {
  return {
    next: variable("next", 32),
    serving: variable("serving", 32),
    phase: Memory.arbitrary("phase", 6, 2),
    ticket: Memory.arbitrary("ticket", 6, 32),
    holder: Memory.arbitrary("holder", 32, 6),
  };
}

// ---------------------------------------------------------------------------------------------------------------- the invariant

/** What holds of each CPU: a ticket that it has is out, and it holds the lock only when its ticket is served. */
function ofCpu(lock: Lock, cpu: Term): Term {
  const [phase, ticket] = [lock.phase.read(cpu), lock.ticket.read(cpu)];
  return and(
    ule(phase, Phase.HOLDING),
    implies(
      ne(phase, Phase.IDLE),
      and(ult(sub(ticket, lock.serving), sub(lock.next, lock.serving)), eq(lock.holder.read(ticket), cpu)),
    ),
    implies(eq(phase, Phase.HOLDING), eq(ticket, lock.serving)),
  );
}

/** What holds of each ticket: one that is out is some CPU's. */
function ofTicket(lock: Lock, ticket: Term): Term {
  const cpu = lock.holder.read(ticket);
  return implies(
    ult(sub(ticket, lock.serving), sub(lock.next, lock.serving)),
    and(ne(lock.phase.read(cpu), Phase.IDLE), eq(lock.ticket.read(cpu), ticket)),
  );
}

/** Tickets that are out are different CPUs', by `ofTicket`, and there are no more than 64. */
const ticketsFit = (lock: Pick<Lock, "next" | "serving">): Term =>
  ule(sub(lock.next, lock.serving), bv(MAX_CPUS, 32));

// -------------------------------------------------------------------------------------------------------------------- the steps

interface Step {
  readonly name: string;
  /** Whether a CPU may take it. */
  may(lock: Lock, cpu: Term): Term;
  run(lock: Lock, cpu: Term): Lock;
}

const STEPS: readonly Step[] = [
  {
    name: "taking a ticket",
    may: (lock, cpu) => eq(lock.phase.read(cpu), Phase.IDLE),
    run: (lock, cpu) => ({
      ...lock,
      next: add(lock.next, one),
      phase: lock.phase.store(cpu, Phase.WAITING),
      ticket: lock.ticket.store(cpu, lock.next),
      holder: lock.holder.store(lock.next, cpu),
    }),
  },
  {
    name: "seeing one's turn",
    may: (lock, cpu) => and(eq(lock.phase.read(cpu), Phase.WAITING), eq(lock.ticket.read(cpu), lock.serving)),
    run: (lock, cpu) => ({ ...lock, phase: lock.phase.store(cpu, Phase.HOLDING) }),
  },
  {
    name: "giving the lock on",
    may: (lock, cpu) => eq(lock.phase.read(cpu), Phase.HOLDING),
    run: (lock, cpu) => ({
      ...lock,
      serving: add(lock.serving, one),
      phase: lock.phase.store(cpu, Phase.IDLE),
    }),
  },
];

const [me, other, third] = ["actor", "other", "third"].map((name) => variable(name, 6)) as [Term, Term, Term];
const anyTicket = variable("any ticket", 32);

/** What a CPU relies on while others take steps: its place is its own, its ticket stays out, and while it holds the lock its turn lasts. */
function rely(before: Place, after: Place): Term {
  return and(
    eq(before.phase, after.phase),
    eq(before.ticket, after.ticket),
    implies(
      ne(after.phase, Phase.IDLE),
      ult(sub(after.ticket, after.serving), sub(after.next, after.serving)),
    ),
    implies(eq(before.phase, Phase.HOLDING), eq(before.serving, after.serving)),
    // From an atomic operation of the others to the next, time passes in one direction: who waits comes closer to being served.
    implies(
      eq(before.phase, Phase.WAITING),
      ule(sub(after.ticket, after.serving), sub(before.ticket, before.serving)),
    ),
  );
}

/** The lock as one CPU sees it. */
interface Place {
  readonly next: Term;
  readonly serving: Term;
  readonly phase: Term;
  readonly ticket: Term;
}

const placeOf = (lock: Lock, cpu: Term): Place => ({
  next: lock.next,
  serving: lock.serving,
  phase: lock.phase.read(cpu),
  ticket: lock.ticket.read(cpu),
});

function stepLemma({ may, run }: Step): Omit<Problem, "name"> {
  const before = arbitraryLock();
  const after = run(before, me);
  const cpus = [me, other, before.holder.read(before.serving)];
  const tickets = [anyTicket, before.next, before.serving, before.ticket.read(me), before.ticket.read(other)];
  return {
    hypotheses: [
      may(before, me),
      ticketsFit(before),
      ...cpus.map((cpu) => ofCpu(before, cpu)),
      ...[...tickets.map((ticket) => before.holder.read(ticket))].map((cpu) => ofCpu(before, cpu)),
      ...tickets.map((ticket) => ofTicket(before, ticket)),
    ],
    goals: [
      { name: "what holds of each CPU is kept", path: TRUE, goal: ofCpu(after, other) },
      { name: "what holds of each ticket is kept", path: TRUE, goal: ofTicket(after, anyTicket) },
      {
        name: "the others may rely on it",
        path: ne(me, other),
        goal: rely(placeOf(before, other), placeOf(after, other)),
      },
    ],
  };
}

/** `rely` holds of no step, and of two sequences of steps in a row if it holds of each: so of any number. */
function relyLemma(): Omit<Problem, "name"> {
  const place = (name: string): Place => ({
    next: variable(`${name} next`, 32),
    serving: variable(`${name} serving`, 32),
    phase: variable(`${name} phase`, 2),
    ticket: variable(`${name} ticket`, 32),
  });
  const [a, b, c] = ["first", "second", "last"].map(place) as [Place, Place, Place];
  const out = implies(ne(a.phase, Phase.IDLE), ult(sub(a.ticket, a.serving), sub(a.next, a.serving)));
  return {
    hypotheses: [out],
    goals: [
      { name: "nothing may happen", path: TRUE, goal: rely(a, a) },
      { name: "one thing may happen after another", path: and(rely(a, b), rely(b, c)), goal: rely(a, c) },
    ],
  };
}

function exclusionLemma(): Omit<Problem, "name"> {
  const lock = arbitraryLock();
  const holds = (cpu: Term) => eq(lock.phase.read(cpu), Phase.HOLDING);
  return {
    hypotheses: [ofCpu(lock, me), ofCpu(lock, other), holds(me)],
    goals: [{ name: "no other does", path: ne(me, other), goal: not(holds(other)) }],
  };
}

// --------------------------------------------------------------------------------------------------------------------- the code

/** Ghosts in which the code's run keeps the lock as this CPU sees it. `patience` is how often it looks in vain before it is served. */
const GHOSTS = { next: 32, serving: 32, phase: 2, ticket: 32, patience: 32 } as const;

const placeIn = ({ ghosts }: State): Place => ghosts as unknown as Place;

/**
 * A lock's two words while others take steps: before each access they change as this CPU may rely on. A CPU that waits is served after
 * it has looked `patience` times in vain, an arbitrary number: waiting ends because every holder gives the lock on (progress).
 */
class LockWords implements LinearMemory {
  private readonly at: Term;
  private looks = 0;

  /** @param at address of the lock */
  constructor(at: Term) {
    this.at = at;
  }

  private othersRun(state: State): void {
    const before = { ...placeIn(state) };
    const n = this.looks++;
    const patience = state.ghosts.patience as Term;
    const waits = eq(before.phase, Phase.WAITING);
    const served = and(waits, eq(patience, bv(0, 32)));
    state.ghosts.next = variable(`next ${n}`, 32);
    state.ghosts.serving = ite(served, before.ticket, variable(`serving ${n}`, 32));
    state.ghosts.patience = ite(waits, sub(patience, one), patience);
    const after = placeIn(state);
    state.path = and(state.path, rely(before, after), ticketsFit(after));
  }

  private isServing({ address, oblige }: Access): boolean {
    const offset = sub(address, this.at);
    oblige("only this lock is accessed", or(eq(offset, bv(0, 32)), eq(offset, bv(4, 32))));
    const second = eq(extract(2, 0, address), bv(4, 3));
    if (second !== TRUE && second !== FALSE)
      throw new Error("it is not evident which word of a lock is accessed");
    return second === TRUE;
  }

  load(access: Access): Term {
    const { state } = access;
    this.othersRun(state);
    if (!this.isServing(access)) return state.ghosts.next as Term;
    // Seeing one's turn.
    const { phase, ticket, serving } = placeIn(state);
    const turn = and(eq(phase, Phase.WAITING), eq(ticket, serving));
    state.ghosts.phase = ite(turn, Phase.HOLDING, phase);
    return serving;
  }

  store(access: Access, value: Term): void {
    const { state, oblige } = access;
    if (this.isServing(access)) {
      this.othersRun(state);
      const { phase, serving } = placeIn(state);
      oblige("the lock is given on by who holds it", eq(phase, Phase.HOLDING));
      oblige("the next ticket is served", eq(value, add(serving, one)));
      state.ghosts.serving = value;
      state.ghosts.phase = Phase.IDLE;
      return;
    }
    // The second half of an atomic addition: `acquireLemma` looks at the instructions.
    const { phase, next } = placeIn(state);
    oblige("a ticket is taken by who has none", eq(phase, Phase.IDLE));
    oblige("tickets are taken one by one", eq(value, add(next, one)));
    state.ghosts.ticket = next;
    state.ghosts.phase = Phase.WAITING;
    state.ghosts.next = value;
  }

  fill(): void {
    throw new Error("a lock is not filled");
  }

  copy(): void {
    throw new Error("a lock is not copied");
  }
}

/** Operations on memory in the code of a function, in order. */
function accesses(module: Module, name: string): string[] {
  return [...instructions(functionNamed(module, name).body)]
    .map(({ op }) => op)
    .filter((op) => /\.(load|store|atomic)|^memory\./.test(op));
}

/** Runs `lock/acquire` or `lock/release` on an arbitrary lock. @throws Error when it accesses memory in other ways than stated */
function codeLemma(
  module: Module,
  name: string,
  operations: readonly string[],
  from: Term,
  ends: (state: State) => Goal[],
): Omit<Problem, "name"> {
  const found = accesses(module, name);
  if (found.join() !== operations.join())
    throw new Error(`${name} accesses memory by ${found.join(", ")}, not ${operations.join(", ")}`);
  const lock = variable("lock", 32);
  const at = add(
    bv(layoutOf(module).constant("LOCKS"), 32),
    concat(bv(0, 20), extract(8, 0, lock), bv(0, 3)),
  );
  const ghosts = Object.fromEntries(
    Object.entries(GHOSTS).map(([ghost, width]) => [ghost, variable(ghost, width)]),
  );
  const before: State = {
    path: ult(lock, bv(261, 32)),
    locals: [],
    stack: [],
    memories: {},
    ghosts: { ...ghosts, phase: from },
  };
  const start = placeIn(before);
  const isMine = (state: State) => {
    const { phase, ticket, next, serving } = placeIn(state);
    return and(eq(phase, Phase.WAITING), ult(sub(ticket, serving), sub(next, serving)));
  };
  const executor = new Executor(module, {
    linear: new LockWords(at),
    loops:
      name === "lock/acquire"
        ? {
            "lock/acquire#0": {
              ghosts: { next: "any", serving: "any", phase: "any", patience: "any" },
              invariant: (now) => ({
                "it waits, its ticket is out": isMine(now),
                "it waits for its ticket": eq(now.locals[1] as Term, now.ghosts.ticket as Term),
              }),
              variant: (now) => now.ghosts.patience as Term,
            },
          }
        : {},
  });
  const outcome = executor.run(name, before, [lock]);
  if (!outcome) throw new Error(`${name} does not return`);
  const holding = implies(
    eq(from, Phase.HOLDING),
    and(eq(start.ticket, start.serving), ne(start.next, start.serving)),
  );
  return {
    hypotheses: [holding, ...executor.facts],
    goals: [...executor.obligations, ...ends(outcome.state)],
  };
}

// ------------------------------------------------------------------------------------------------------------------- try-locks

const free = bv(0, 32);

/** A try-lock: its word, and which CPUs hold it. */
interface TryLock {
  readonly word: Term;
  readonly held: Memory;
}

const isHeld = (lock: TryLock, cpu: Term) => eq(lock.held.read(cpu), bv(1, 1));
/** What holds of each two CPUs: the word is 1 when one holds the lock, and not both do. */
const ofPair = (lock: TryLock, a: Term, b: Term) =>
  and(
    implies(isHeld(lock, a), eq(lock.word, one)),
    implies(ne(a, b), not(and(isHeld(lock, a), isHeld(lock, b)))),
  );

/** Taking it if it is free is one compare-and-exchange, giving it back one store. */
const tryTake = (lock: TryLock, cpu: Term): TryLock => {
  const success = eq(lock.word, free);
  return { word: ite(success, one, lock.word), held: lock.held.store(cpu, bv(1, 1), success) };
};
const tryGive = (lock: TryLock, cpu: Term): TryLock => ({ word: free, held: lock.held.store(cpu, bv(0, 1)) });

function tryLemma(): Omit<Problem, "name"> {
  const before: TryLock = { word: variable("word", 32), held: Memory.arbitrary("held", 6, 1) };
  const cpus = [me, other, third];
  const goals = (step: string, after: TryLock, path: Term): Goal[] => [
    { name: `${step} keeps what holds of two CPUs`, path, goal: ofPair(after, other, third) },
    {
      name: `${step} leaves the lock to who holds it`,
      path,
      goal: implies(
        and(ne(me, other), isHeld(before, other)),
        and(isHeld(after, other), eq(after.word, before.word)),
      ),
    },
  ];
  return {
    hypotheses: cpus.flatMap((a) => cpus.map((b) => ofPair(before, a, b))),
    goals: [
      ...goals("trying", tryTake(before, me), TRUE),
      ...goals("giving back", tryGive(before, me), isHeld(before, me)),
    ],
  };
}

/** The word of a vCPU record's try-lock, under compare-and-exchange or store. */
class TryWord implements LinearMemory {
  readonly oblige = "only this word is accessed";
  private readonly at: Term;

  constructor(at: Term) {
    this.at = at;
  }

  load({ state, address, oblige }: Access): Term {
    oblige(this.oblige, eq(address, this.at));
    state.ghosts.before = state.ghosts.word as Term;
    return state.ghosts.word as Term;
  }

  store({ state, address, oblige }: Access, value: Term): void {
    oblige(this.oblige, eq(address, this.at));
    state.ghosts.word = value;
  }

  fill(): void {
    throw new Error("a lock is not filled");
  }

  copy(): void {
    throw new Error("a lock is not copied");
  }
}

function tryCodeLemma(module: Module): Omit<Problem, "name"> {
  const at = concat(variable("record", 25), bv(field.vcpu("lock"), 7));
  const word = variable("word", 32);
  const memory = bv((module.memory?.min ?? 0) * 0x1_0000, 32);
  const run = (name: string, operation: string) => {
    const found = accesses(module, name);
    if (found.join() !== operation) throw new Error(`${name} accesses memory by ${found.join(", ")}`);
    const executor = new Executor(module, { linear: new TryWord(at) });
    const outcome = executor.run(
      name,
      { path: TRUE, locals: [], stack: [], memories: {}, ghosts: { word, before: word } },
      [at],
    );
    if (!outcome) throw new Error(`${name} does not return`);
    return { ...outcome, obligations: executor.obligations };
  };
  const take = run("lock/tryAcquire", "i32.atomic.rmw.cmpxchg");
  const give = run("lock/tryRelease", "i32.atomic.store");
  const success = eq(word, free);
  return {
    hypotheses: [ult(at, sub(memory, bv(8, 32)))],
    goals: [
      ...take.obligations,
      ...give.obligations,
      {
        name: "trying is one compare-and-exchange of 0 by 1",
        path: take.state.path,
        goal: eq(take.state.ghosts.word as Term, ite(success, one, word)),
      },
      {
        name: "it says whether it took the lock",
        path: take.state.path,
        goal: eq(take.result as Term, ite(success, one, free)),
      },
      {
        name: "giving back frees the lock",
        path: give.state.path,
        goal: eq(give.state.ghosts.word as Term, free),
      },
    ],
  };
}

export const LOCK_AXIOMS = [
  {
    name: "tickets fit",
    reason:
      "tickets that are out are different CPUs' (lemmas `... a lock`), and there are at most 64 CPUs: the pigeonhole principle",
  },
  {
    name: "who holds a lock gives it on",
    reason:
      "all code of the core ends (every loop has a variant) and releases what it took (contracts); so whoever waits looks in vain finitely often. Safety does not rest on it",
  },
] as const;

/** The lemma that proves the code of each lock function; that what it grants is so while other CPUs run, `rely.ts` says. */
export const LOCKS_BY_LEMMA: Readonly<Record<string, string>> = {
  "lock/lockAddress": "acquire takes a ticket and waits for its turn",
  "lock/acquire": "acquire takes a ticket and waits for its turn",
  "lock/release": "release serves the next ticket",
  "lock/tryAcquire": "the code of try-locks takes these steps",
  "lock/tryRelease": "the code of try-locks takes these steps",
};

/** @returns the lemmas of this file */
export function ticketLockLemmas(module: Module): Problem[] {
  return [
    ...STEPS.map((step) => lemma(`${step.name} is safe for a lock`, () => stepLemma(step))),
    lemma("what a CPU relies on of a lock lasts", relyLemma),
    lemma("one CPU at most holds a lock", exclusionLemma),
    lemma("acquire takes a ticket and waits for its turn", () =>
      codeLemma(module, "lock/acquire", ["i32.atomic.rmw.add", "i32.atomic.load"], Phase.IDLE, (state) => {
        const { phase, ticket, serving } = placeIn(state);
        return [
          {
            name: "the lock is held at the end",
            path: state.path,
            goal: and(eq(phase, Phase.HOLDING), eq(ticket, serving)),
          },
        ];
      }),
    ),
    lemma("release serves the next ticket", () =>
      codeLemma(module, "lock/release", ["i32.atomic.load", "i32.atomic.store"], Phase.HOLDING, (state) => [
        { name: "the lock is given on", path: state.path, goal: eq(placeIn(state).phase, Phase.IDLE) },
      ]),
    ),
    lemma("one CPU at most holds a try-lock", tryLemma),
    lemma("the code of try-locks takes these steps", () => tryCodeLemma(module)),
  ];
}
