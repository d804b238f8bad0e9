/** A process of the {@link Certifier}. */

import { checkProof } from "./certificate.ts";
import type { Request } from "./certifier.ts";

process.on("message", ({ cnf, proof, format }: Request) => {
  process.send?.(checkProof(cnf, proof, format));
});
