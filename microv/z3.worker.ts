/** The process in which z3 runs as WebAssembly: it takes SMT-LIB and gives back what z3 prints. */

import { init } from "z3-solver";

interface Request {
  readonly text: string;
  readonly megabytes: number;
}

const ready = init();

process.on("message", async ({ text, megabytes }: Request) => {
  const { Z3 } = await ready;
  Z3.global_param_set("memory_max_size", String(megabytes));
  const config = Z3.mk_config();
  const context = Z3.mk_context(config);
  Z3.del_config(config);
  try {
    process.send?.(await Z3.eval_smtlib2_string(context, text));
  } catch (error) {
    process.send?.(`error ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    Z3.del_context(context);
  }
});
