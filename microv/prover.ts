/**
 * The prover: from obligations to results.
 *
 * Obligations of one name in one problem are one question: can the hypotheses hold while some path is taken and its goal fails? If not,
 * the obligation is proved, provided that its hypotheses and some path can hold at all; a goal that holds only because nothing gets there
 * is `vacuous`. Only evidence counts: for "no", a certificate that the independent checker accepts (when certifying); for "yes", a model
 * under which the formulas evaluate to true.
 */

import { availableParallelism } from "node:os";
import { and, not, or } from "./build.ts";
import type { ResultCache } from "./cache.ts";
import { Certifier } from "./certifier.ts";
import { Evaluator, type Model } from "./evaluate.ts";
import { type EntryFact, instantiate } from "./instantiate.ts";
import type { Limits } from "./process.ts";
import { type Proof, Query, type Solver, solve } from "./solver.ts";
import { FALSE, type Term } from "./term.ts";

/** One thing to be proved; an executor's `Obligation` is one. */
export interface Goal {
  readonly name: string;
  readonly path: Term;
  readonly goal: Term;
  /** Hypotheses of this goal alone. */
  readonly given?: readonly Term[];
  /** Where it arises, as `file:line`. */
  readonly where?: string;
  /** False when the path is expected to be impossible, as that of a trap: reachability is not asked then. */
  readonly reachable?: boolean;
}

/** Goals under common hypotheses. */
export interface Problem {
  /** Names the problem in results: the function, layer or lemma. */
  readonly name: string;
  readonly hypotheses: readonly Term[];
  readonly entryFacts?: readonly EntryFact[];
  readonly goals: readonly Goal[];
}

interface Common {
  readonly problem: string;
  readonly name: string;
  /** Who answered: a solver, `simplifier`, or `cache (solver)`. */
  readonly solver: string;
  readonly milliseconds: number;
}

export type Result =
  /** `certified`: the checker accepted a certificate in this run, or the simplifier needed no solver. */
  | (Common & { readonly status: "proved"; readonly certified: boolean })
  | (Common & { readonly status: "failed"; readonly model: Model; readonly goal: Goal })
  | (Common & { readonly status: "vacuous" })
  | (Common & { readonly status: "unknown"; readonly reason: string });

export interface ProveOptions {
  readonly solvers: readonly Solver[];
  /** Whether every `unsat` needs a certificate that the checker accepts; without a certifying solver nothing is proved then. */
  readonly certify?: boolean;
  readonly limits?: Partial<Limits>;
  readonly cache?: ResultCache;
  /** How many questions are worked on at a time; the number of processors by default. */
  readonly parallel?: number;
  /** Most rounds of instantiation of entry facts, tried when fewer leave a goal unproved. */
  readonly rounds?: number;
  /** Whether the first goal that is not proved ends the work: the results are then those so far. */
  readonly stopEarly?: boolean;
  /** Told of each result as it comes, in any order. */
  readonly onResult?: (result: Result, done: number, total: number) => void;
}

/** A checked answer. */
type Finding =
  | { readonly status: "unsat"; readonly solver: string; readonly certified: boolean }
  | { readonly status: "sat"; readonly solver: string; readonly model: Model }
  | { readonly status: "unknown"; readonly solver: string; readonly reason: string };

/** Answers queries with checked evidence, each question once. */
class Investigator {
  private readonly options: ProveOptions;
  private readonly limits: Limits;
  private readonly certifier: Certifier;
  private readonly known = new Map<string, Promise<Finding>>();

  constructor(options: ProveOptions, parallel: number) {
    this.options = options;
    this.limits = { milliseconds: 60_000, megabytes: 2048, ...options.limits };
    this.certifier = new Certifier(parallel > 1 ? parallel - 1 : 0);
  }

  ask(query: Query): Promise<Finding> {
    if (query.isFalse) return Promise.resolve({ status: "unsat", solver: "simplifier", certified: true });
    let finding = this.known.get(query.digest);
    if (!finding) {
      finding = this.investigate(query).catch(
        (error): Finding => ({
          status: "unknown",
          solver: "none",
          reason: error instanceof Error ? error.message : String(error),
        }),
      );
      this.known.set(query.digest, finding);
    }
    return finding;
  }

  private async investigate(query: Query): Promise<Finding> {
    const kept = await this.fromCache(query);
    if (kept) return kept;
    const { certify, solvers } = this.options;
    const answer = await solve(query, solvers, this.limits);
    if (answer.status === "unknown") return answer;
    const { solver } = answer;
    if (answer.status === "sat") {
      this.options.cache?.put(query.digest, { status: "sat", solver, model: answer.model });
      return answer;
    }
    if (certify && !answer.proof)
      return { status: "unknown", solver, reason: `${solver} gives no certificate` };
    if (!certify || !answer.proof) {
      this.options.cache?.put(query.digest, { status: "unsat", solver, proof: undefined });
      return { status: "unsat", solver, certified: false };
    }
    const verdict = await this.check(query, answer.proof);
    if (!verdict.ok)
      return { status: "unknown", solver, reason: `the certificate was refused: ${verdict.reason}` };
    this.options.cache?.put(query.digest, { status: "unsat", solver, proof: verdict.trimmed });
    return { status: "unsat", solver, certified: true };
  }

  private check(query: Query, proof: Proof) {
    return this.certifier.check({ cnf: query.blasted.cnf, proof: proof.bytes, format: proof.format });
  }

  private async fromCache(query: Query): Promise<Finding | undefined> {
    const { cache, certify } = this.options;
    const entry = cache?.get(query.digest);
    if (!cache || !entry) return undefined;
    const solver = `cache (${entry.solver})`;
    if (entry.status === "sat") {
      if (query.satisfiedBy(entry.model)) return { status: "sat", solver, model: entry.model };
      cache.reject(query.digest, "its model does not satisfy the formulas");
      return undefined;
    }
    if (cache.trust === "believe" && !certify) return { status: "unsat", solver, certified: false };
    if (!entry.proof) return undefined;
    const verdict = await this.check(query, { bytes: entry.proof, format: "binary" });
    if (verdict.ok) return { status: "unsat", solver, certified: true };
    cache.reject(query.digest, `its proof was refused: ${verdict.reason}`);
    return undefined;
  }

  close(): void {
    this.certifier.close();
  }
}

/** The goals of one name, as they are asked together. */
interface Task {
  readonly problem: Problem;
  readonly name: string;
  readonly goals: readonly Goal[];
}

function tasksOf(problem: Problem): Task[] {
  const groups = new Map<string, Goal[]>();
  for (const goal of problem.goals) {
    const group = groups.get(goal.name);
    if (group) group.push(goal);
    else groups.set(goal.name, [goal]);
  }
  return [...groups].map(([name, goals]) => ({ problem, name, goals }));
}

/** Models found so far: often one of them answers a question about reachability without a solver. */
type Witnesses = Map<Problem, Model[]>;

/**
 * The question whether the hypotheses can hold together with what `formula` says of one of the goals, with `rounds` rounds of entry
 * facts.
 */
function queryFor(
  problem: Problem,
  goals: readonly Goal[],
  formula: (goal: Goal) => Term,
  rounds: number,
): { query: Query; complete: boolean } {
  const shared = commonHypotheses(goals);
  const own = ({ given = [] }: Goal) => given.filter((fact) => !shared.has(fact));
  const some = or(...goals.map((goal) => and(formula(goal), ...own(goal))));
  const formulas = [...problem.hypotheses, ...shared, some];
  const { instances, complete } = instantiate(formulas, problem.entryFacts ?? [], rounds);
  return { query: new Query([...formulas, ...instances]), complete };
}

/** The hypotheses that each of the goals has of its own. */
function commonHypotheses(goals: readonly Goal[]): Set<Term> {
  const [first, ...others] = goals.map(({ given = [] }) => given);
  let shared = new Set(first);
  for (const given of others) {
    const set = new Set(given);
    shared = new Set([...shared].filter((fact) => set.has(fact)));
  }
  return shared;
}

const failure = (goal: Goal): Term => and(goal.path, not(goal.goal));

async function refute(task: Task, investigator: Investigator, rounds: number): Promise<Finding> {
  const open = task.goals.filter((goal) => failure(goal) !== FALSE);
  if (open.length === 0) return { status: "unsat", solver: "simplifier", certified: true };
  for (let round = 1; ; round++) {
    const { query, complete } = queryFor(task.problem, open, failure, round);
    const finding = await investigator.ask(query);
    if (finding.status !== "sat" || complete || round >= rounds) return finding;
  }
}

async function reach(task: Task, investigator: Investigator, witnesses: Witnesses): Promise<Finding> {
  const { query } = queryFor(task.problem, task.goals, (goal) => goal.path, 1);
  const known = witnesses.get(task.problem) ?? [];
  witnesses.set(task.problem, known);
  const witness = known.find((model) => query.satisfiedBy(model));
  if (witness) return { status: "sat", solver: "simplifier", model: witness };
  const finding = await investigator.ask(query);
  if (finding.status === "sat") known.push(finding.model);
  return finding;
}

async function work(
  task: Task,
  investigator: Investigator,
  witnesses: Witnesses,
  rounds: number,
): Promise<Result> {
  const start = performance.now();
  const finding = await refute(task, investigator, rounds);
  const common = (solver: string): Common => ({
    problem: task.problem.name,
    name: task.name,
    solver,
    milliseconds: performance.now() - start,
  });
  if (finding.status === "unknown")
    return { ...common(finding.solver), status: "unknown", reason: finding.reason };
  if (finding.status === "sat") {
    const evaluator = new Evaluator(finding.model);
    const goal = task.goals.find((g) => evaluator.holds(and(failure(g), ...(g.given ?? [])))) as Goal;
    return { ...common(finding.solver), status: "failed", model: finding.model, goal };
  }
  const { certified } = finding;
  const expected = task.goals.filter((g) => g.reachable ?? g.goal !== FALSE);
  if (expected.length === 0) return { ...common(finding.solver), status: "proved", certified };
  const reached = await reach({ ...task, goals: expected }, investigator, witnesses);
  if (reached.status === "unsat") return { ...common(reached.solver), status: "vacuous" };
  if (reached.status === "unknown") {
    return { ...common(reached.solver), status: "unknown", reason: `reachability: ${reached.reason}` };
  }
  return { ...common(finding.solver), status: "proved", certified };
}

/**
 * Proves all goals of all problems. The results are in the order of the problems and of the first goal of each name, however they came.
 * @example const results = await prove([{ name: "map", hypotheses, goals: executor.obligations }], { solvers: await findSolvers() });
 */
export async function prove(problems: readonly Problem[], options: ProveOptions): Promise<Result[]> {
  const parallel = options.parallel ?? availableParallelism();
  const investigator = new Investigator(options, parallel);
  const tasks = problems.flatMap(tasksOf);
  const results: Result[] = [];
  const witnesses: Witnesses = new Map();
  let next = 0;
  let done = 0;
  let stopped = false;
  const runner = async (): Promise<void> => {
    for (let index = next++; index < tasks.length && !stopped; index = next++) {
      const result = await work(tasks[index] as Task, investigator, witnesses, options.rounds ?? 3);
      results[index] = result;
      if (options.stopEarly && result.status !== "proved") stopped = true;
      options.onResult?.(result, ++done, tasks.length);
    }
  };
  try {
    await Promise.all(Array.from({ length: parallel + 1 }, runner));
  } finally {
    investigator.close();
  }
  return results.filter((result) => result !== undefined);
}
