/**
 * The prover: from obligations to results.
 *
 * Obligations of one name in one problem are one question: can the hypotheses hold while some path is taken and its goal fails? If not,
 * the obligation is proved, provided that its hypotheses and some path can hold at all; a goal that holds only because nothing gets there
 * is `vacuous`. Only evidence counts: for "no", a certificate that the independent checker accepts (when certifying); for "yes", a model
 * under which the formulas evaluate to true.
 *
 * Neighbouring questions that share most of their formulas are put together first: if none of their goals can fail, all are proved.
 * Where one can, or the solver does not know, each is asked by itself.
 */

import { availableParallelism } from "node:os";
import { and, not, or } from "./build.ts";
import { Evaluator, type Model } from "./evaluate.ts";
import { type EntryFact, instantiate } from "./instantiate.ts";
import { type Finding, Investigator, type Means } from "./investigator.ts";
import { type Guess, Query } from "./solver.ts";
import { FALSE, postorder, type Term } from "./term.ts";

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
  /** Its share of the time of the questions it was part of. */
  readonly milliseconds: number;
}

export type Result =
  /** `certified`: the checker accepted a certificate in this run, or the simplifier needed no solver. */
  | (Common & { readonly status: "proved"; readonly certified: boolean })
  | (Common & { readonly status: "failed"; readonly model: Model; readonly goal: Goal })
  | (Common & { readonly status: "vacuous" })
  | (Common & { readonly status: "unknown"; readonly reason: string });

export interface ProveOptions extends Means {
  /** How many questions are worked on at a time; the number of processors by default. */
  readonly parallel?: number;
  /** Most rounds of instantiation of entry facts, tried when fewer leave a goal unproved. */
  readonly rounds?: number;
  /** Whether the first goal that is not proved ends the work: the results are then those so far. */
  readonly stopEarly?: boolean;
}

/** The goals of one name: one obligation. */
interface Task {
  readonly name: string;
  readonly goals: readonly Goal[];
}

/** Most obligations in one question. With more, the solver loses more than the shared formulas gain. */
const MOST_TOGETHER = 12;

/** Milliseconds for a question of several obligations: one that takes longer is several hard ones, or one that is easier alone. */
const TOGETHER = 5000;

/** Most of an obligation's formulas, as a fraction, that may be new to the question that it joins: unlike ones are harder together. */
const MOST_NEW = 0.5;

const failure = (goal: Goal): Term => and(goal.path, not(goal.goal));

function tasksOf(problem: Problem): Task[] {
  const groups = new Map<string, Goal[]>();
  for (const goal of problem.goals) {
    const group = groups.get(goal.name);
    if (group) group.push(goal);
    else groups.set(goal.name, [goal]);
  }
  return [...groups].map(([name, goals]) => ({ name, goals }));
}

/** What goals of a list have in common as hypotheses of their own. */
function sharedBy(goals: readonly Goal[]): Set<Term> {
  const [first, ...others] = goals.map(({ given = [] }) => given);
  let shared = new Set(first);
  for (const given of others) {
    if (given.length >= shared.size && given.every((fact, i) => i >= shared.size || shared.has(fact)))
      continue;
    const set = new Set(given);
    shared = new Set([...shared].filter((fact) => set.has(fact)));
  }
  return shared;
}

/** The goals whose paths some run must take. */
const expected = ({ goals }: Task): readonly Goal[] => goals.filter((g) => g.reachable ?? g.goal !== FALSE);

/** The work on one problem. */
class Work {
  readonly tasks: readonly Task[];
  private readonly problem: Problem;
  private readonly investigator: Investigator;
  private readonly options: ProveOptions;
  private readonly refuted = new Map<Task, Finding>();
  private readonly spent = new Map<Task, number>();

  constructor(problem: Problem, investigator: Investigator, options: ProveOptions) {
    this.problem = problem;
    this.investigator = investigator;
    this.options = options;
    this.tasks = tasksOf(problem);
  }

  /** Obligations to be asked about together, for {@link refuteTogether}; the others are settled. */
  batches(): Task[][] {
    const open = this.tasks.filter((task) => {
      if (task.goals.some((goal) => failure(goal) !== FALSE)) return true;
      this.refuted.set(task, { status: "unsat", solver: "simplifier", certified: true });
      return false;
    });
    const common = new Set(postorder(this.problem.hypotheses));
    const batches: Task[][] = [];
    let known = new Set<Term>();
    for (const task of open) {
      const own = postorder(task.goals.map(failure)).filter((term) => !common.has(term));
      const fresh = own.filter((term) => !known.has(term));
      const batch = batches.at(-1);
      if (batch && batch.length < MOST_TOGETHER && fresh.length <= MOST_NEW * own.length) {
        batch.push(task);
        for (const term of fresh) known.add(term);
      } else {
        batches.push([task]);
        known = new Set(own);
      }
    }
    return batches;
  }

  /**
   * The question whether the hypotheses can hold together with what `formula` says of one of the goals, with `rounds` rounds of entry
   * facts.
   */
  private queryFor(goals: readonly Goal[], formula: (goal: Goal) => Term, rounds: number, guess?: Guess) {
    const shared = sharedBy(goals);
    const own = ({ given = [] }: Goal) => given.filter((fact) => !shared.has(fact));
    const some = or(...goals.map((goal) => and(formula(goal), ...own(goal))));
    const formulas = [...this.problem.hypotheses, ...shared, some];
    const { instances, complete } = instantiate(formulas, this.problem.entryFacts ?? [], rounds);
    return { query: new Query([...formulas, ...instances], guess), complete };
  }

  /** Tries to show that no goal of these obligations can fail. */
  async refuteTogether(tasks: readonly Task[]): Promise<void> {
    if (tasks.length === 0) return;
    if (tasks.length === 1) return this.refuteAlone(tasks[0] as Task);
    const goals = tasks.flatMap((task) => task.goals).filter((goal) => failure(goal) !== FALSE);
    const finding = await this.timed(tasks, () =>
      this.investigator.ask(this.queryFor(goals, failure, 1).query, TOGETHER),
    );
    if (finding.status === "unsat") {
      for (const task of tasks) this.refuted.set(task, finding);
    } else if (finding.status === "sat") {
      const evaluator = new Evaluator(finding.model);
      const suspect = new Set(tasks.filter((task) => task.goals.some((goal) => this.fails(goal, evaluator))));
      for (const task of suspect) {
        await this.refuteAlone(task);
        if (this.options.stopEarly && this.refuted.get(task)?.status !== "unsat") return;
      }
      await this.refuteTogether(tasks.filter((task) => !suspect.has(task)));
    } else {
      const half = tasks.length >> 1;
      await this.refuteTogether(tasks.slice(0, half));
      await this.refuteTogether(tasks.slice(half));
    }
  }

  private async refuteAlone(task: Task): Promise<void> {
    const open = task.goals.filter((goal) => failure(goal) !== FALSE);
    const { rounds = 3 } = this.options;
    for (let round = 1; ; round++) {
      const { query, complete } = this.queryFor(open, failure, round);
      const finding = await this.timed([task], () => this.investigator.ask(query));
      this.refuted.set(task, finding);
      if (finding.status !== "sat" || complete || round >= rounds) return;
    }
  }

  private fails(goal: Goal, evaluator: Evaluator): boolean {
    return [failure(goal), ...(goal.given ?? [])].every((formula) => evaluator.holds(formula));
  }

  /**
   * Finds for each obligation a run that gets there. One run gets to most of them, so the last is asked about first, under every
   * hypothesis that any of them has; where that finds none, the obligation is asked about by itself.
   */
  private async reach(tasks: readonly Task[]): Promise<Map<Task, Finding>> {
    const findings = new Map<Task, Finding>();
    const goals = tasks.flatMap(expected);
    const given = new Set(goals.flatMap((goal) => goal.given ?? []));
    const formulas = [...this.problem.hypotheses, ...given];
    const { instances } = instantiate(
      [...formulas, ...goals.map(({ path }) => path)],
      this.problem.entryFacts ?? [],
      1,
    );
    const paths = tasks.map((task) => or(...expected(task).map(({ path }) => path)));
    const queries = Query.family([...formulas, ...instances], paths, "sat");
    for (const [i, task] of [...tasks.entries()].reverse()) {
      if (findings.has(task)) continue;
      let finding = await this.timed([task], () => this.investigator.ask(queries[i] as Query));
      if (finding.status !== "sat") {
        const own = this.queryFor(expected(task), (goal) => goal.path, 1, "sat").query;
        finding = await this.timed([task], () => this.investigator.ask(own));
        findings.set(task, finding);
        continue;
      }
      const evaluator = new Evaluator(finding.model);
      for (const other of tasks) {
        if (!findings.has(other) && expected(other).some(({ path }) => evaluator.holds(path)))
          findings.set(other, finding);
      }
    }
    return findings;
  }

  private async timed(tasks: readonly Task[], work: () => Promise<Finding>): Promise<Finding> {
    const start = performance.now();
    const finding = await work();
    const share = (performance.now() - start) / tasks.length;
    for (const task of tasks) this.spent.set(task, (this.spent.get(task) ?? 0) + share);
    return finding;
  }

  /** Whether the obligation was asked about and is not proved. */
  isOpen(task: Task): boolean {
    const finding = this.refuted.get(task);
    return finding !== undefined && finding.status !== "unsat";
  }

  /**
   * The results, once nothing more is to be refuted.
   * @param openOnly only of the obligations that are not proved
   */
  async results(openOnly: boolean): Promise<Result[]> {
    const settled = openOnly ? this.tasks.filter((task) => this.isOpen(task)) : this.tasks;
    const asked = settled.filter((task) => !this.isOpen(task) && expected(task).length > 0);
    const reached = asked.length > 0 ? await this.reach(asked) : undefined;
    return settled.map((task) => this.result(task, this.refuted.get(task) as Finding, reached?.get(task)));
  }

  private result(task: Task, finding: Finding, reached: Finding | undefined): Result {
    const common: Common = {
      problem: this.problem.name,
      name: task.name,
      solver: finding.solver,
      milliseconds: this.spent.get(task) ?? 0,
    };
    if (finding.status === "unknown") return { ...common, status: "unknown", reason: finding.reason };
    if (finding.status === "sat") {
      const evaluator = new Evaluator(finding.model);
      const goal = task.goals.find((g) => this.fails(g, evaluator)) as Goal;
      return { ...common, status: "failed", model: finding.model, goal };
    }
    if (reached?.status === "unsat") return { ...common, solver: reached.solver, status: "vacuous" };
    if (reached?.status === "unknown") {
      const reason = `reachability: ${reached.reason}`;
      return { ...common, solver: reached.solver, status: "unknown", reason };
    }
    return { ...common, status: "proved", certified: finding.certified };
  }
}

/**
 * Proves all goals of all problems. The results are in the order of the problems and of the first goal of each name, however they came.
 * @example const results = await prove([{ name: "map", hypotheses, goals: executor.obligations }], { solvers: await findSolvers() });
 */
export async function prove(problems: readonly Problem[], options: ProveOptions): Promise<Result[]> {
  const parallel = options.parallel ?? availableParallelism();
  const investigator = new Investigator(options, parallel);
  const works = problems.map((problem) => new Work(problem, investigator, options));
  const batches = works.flatMap((work) => work.batches().map((tasks) => ({ work, tasks })));
  let stopped = false;
  try {
    await inParallel(parallel + 1, batches, async ({ work, tasks }) => {
      if (stopped) return;
      await work.refuteTogether(tasks);
      if (options.stopEarly && tasks.some((task) => work.isOpen(task))) stopped = true;
    });
    const results = await inParallel(parallel + 1, works, (work) => work.results(stopped));
    return results.flat();
  } finally {
    investigator.close();
  }
}

/** Works on `most` items at a time. The results are in the order of the items. */
async function inParallel<T, R>(
  most: number,
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const runner = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++)
      results[index] = await work(items[index] as T);
  };
  await Promise.all(Array.from({ length: most }, runner));
  return results;
}
