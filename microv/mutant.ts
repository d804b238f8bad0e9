/** Judging a mutant: whether the proof notices it, and if not, whether there is anything to notice. */

import type { Contract } from "./contract.ts";
import { areEquivalent } from "./equivalence.ts";
import type { MutantVerdict } from "./farm.ts";
import { decode, functionNamed, type Module } from "./module.ts";
import {
  type CheckOptions,
  type Claims,
  type ClaimsModule,
  checkFunction,
  checkLemma,
  hosts,
  provable,
} from "./verify.ts";

/** Verdict on the module `wasm`, in which the function `name` was changed; `options.module` is the original. */
export async function judgeMutant(
  claimsModule: ClaimsModule,
  options: CheckOptions,
  wasm: Uint8Array,
  name: string,
): Promise<MutantVerdict> {
  let module: Module;
  let claims: Claims;
  try {
    module = decode(wasm);
    claims = claimsModule.claimsOf(module);
  } catch (error) {
    return { status: "killed", reason: error instanceof Error ? error.message : String(error) };
  }
  const own = provable(claims, module);
  const names = hosts(module, claims.contracts, functionNamed(module, name));
  const proofs = own.filter((contract) => names.includes(contract.function));
  const lemmas = claims.lemmas.filter((one) => names.some((host) => claims.byLemma?.[host] === one.name));
  const checks = { ...options, module, stopEarly: true };
  let doubt: string | undefined;
  for (const check of [
    ...proofs.map((contract) => () => checkFunction(claims, contract, checks)),
    ...lemmas.map((lemma) => () => checkLemma(lemma, checks)),
  ]) {
    const verdict = await check();
    if (verdict.status === "proved") continue;
    const bad = verdict.goals.find(({ status }) => status !== "proved");
    const reason = `${verdict.name}: ${verdict.reason}`;
    if (bad?.status !== "unknown") return { status: "killed", reason };
    doubt = reason;
  }
  // What a lemma proves is compared by itself: it asks for nothing.
  const { results } = functionNamed(module, name);
  const itself: Contract = {
    function: name,
    spec: (c) => results.map((width) => c.result(width))[0],
  };
  if (await areEquivalent(claims, options, module, proofs.length > 0 ? proofs : [itself]))
    return { status: "equivalent", reason: "the solver proves that both do the same" };
  if (doubt !== undefined) return { status: "undecided", reason: doubt };
  const proved = [...proofs.map((contract) => contract.function), ...lemmas.map((lemma) => lemma.name)];
  const why = proved.length === 0 ? `${name} is not proved` : `${proved.join(", ")} is proved all the same`;
  return { status: "survived", reason: why };
}
