/**
 * MicroV proves AssemblyScript cores compiled to WebAssembly.
 *
 * @example
 * const module = decode(bytes);
 * const executor = new Executor(module, { models });
 * const outcome = executor.run("map", before, args);
 * const results = await prove([{ name: "map", hypotheses, goals: [...executor.obligations, ...goals] }], { solvers: await findSolvers() });
 */

export {
  type Algebra,
  ConcreteMap,
  concrete,
  type Mapping,
  SymbolicMap,
  symbolic,
  type Word,
  word,
} from "./algebra.ts";
export * from "./build.ts";
export { ResultCache, type Trust } from "./cache.ts";
export { canonicalOrder, digest } from "./canonical.ts";
export { checkProof, type Verdict } from "./certificate.ts";
export {
  type Build,
  type MutateFlags,
  mutateOptions,
  Refusal,
  readBuild,
  runMutate,
  runVerify,
  type Session,
  type VerifyFlags,
  verifyOptions,
} from "./command.ts";
export { type ConcreteImport, ConcreteMachine, compareWithEngine, Trap } from "./concrete.ts";
export {
  type Clause,
  type Contract,
  type FunctionProblem,
  functionProblem,
  type Invariant,
  type LoopContract,
  parameters,
  type Theory,
  type Unproved,
} from "./contract.ts";
export { type Counterexample, type Execution, explain, format, type Mismatch } from "./counterexample.ts";
export { type Assignment, Evaluator, Model } from "./evaluate.ts";
export { ExecutionError, Executor, type Outcome } from "./executor.ts";
export {
  Farm,
  type FarmSettings,
  type MutantVerdict,
  type Report,
  type VerifyOptions,
  verify,
} from "./farm.ts";
export { type EntryFact, instantiate } from "./instantiate.ts";
export { type Access, type LinearMemory, WordMemory } from "./linear.ts";
export { contentsIn, Memory } from "./memory.ts";
export type {
  Call,
  CallModel,
  ExecutorOptions,
  LoopSpec,
  MemoryForm,
  Obligation,
  TraceEvent,
  UnrolledLoop,
} from "./model.ts";
export {
  DecodeError,
  decode,
  type Func,
  functionNamed,
  type Instruction,
  instructions,
  type Module,
} from "./module.ts";
export { type Mutant, type MutationOptions, mutants } from "./mutation.ts";
export { type Goal, type Problem, type ProveOptions, prove, type Result } from "./prover.ts";
export { describe, type Palette, plain, type Summary, summarize } from "./report.ts";
export { callees, checkShape, findRecursion, type Shape } from "./shape.ts";
export { toSmtLib } from "./smtlib.ts";
export { type Answer, findSolvers, Query, type Solver, type SolverOptions, solve } from "./solver.ts";
export { type Position, SourceMap } from "./sourcemap.ts";
export { copyState, initialState, type State } from "./state.ts";
export { rename, substitute } from "./substitute.ts";
export {
  describeMutants,
  type Judged,
  judgeAll,
  type MutationSummary,
  summarizeMutants,
} from "./survivors.ts";
export {
  applicationsOf,
  apply,
  bool,
  bv,
  FALSE,
  isConst,
  mask,
  postorder,
  show,
  showValue,
  size,
  type Term,
  TRUE,
  termCount,
  variable,
  variablesOf,
} from "./term.ts";
export {
  type CheckOptions,
  type Claims,
  type ClaimsModule,
  checkFunction,
  checkLemma,
  type GoalVerdict,
  provable,
  type Verdict as FunctionVerdict,
} from "./verify.ts";
