import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { findOnPath } from "../../boot/command.ts";
import { commandsOnPath, temporaryFolder } from "../../boot/test/samples.ts";
import { checkMeta } from "../meta.ts";
import { repository } from "../repository.ts";

const skip = (await findOnPath("coqc")) === undefined && "coqc is not on PATH: apt-get install coq";
const { signal } = new AbortController();

/** A copy of the meta-argument in which a text is another. */
async function changed(test: TestContext, right: string, wrong: string): Promise<string> {
  const text = await readFile(join(repository, "proof/meta/Noninterference.v"), "utf8");
  assert.ok(text.includes(right), right);
  const file = join(await temporaryFolder(test), "Changed.v");
  await writeFile(file, text.replace(right, wrong));
  return file;
}

describe("the meta-argument", () => {
  it("is accepted by Coq, without an axiom", { skip }, async () => {
    assert.deepEqual(await checkMeta(signal), { state: "checked", words: "checked" });
  });

  it("is refused without the second form of confidentiality", { skip }, async (test) => {
    const without = await changed(test, "P <> HOST -> invariant L s", "P <> HOST -> False -> invariant L s");
    const { state, words } = await checkMeta(signal, without);
    assert.equal(state, "refused");
    assert.match(words, /^not checked: Coq refuses it: .*Error/);
  });

  it("is refused with a proof left out, and with an axiom in its place", { skip }, async (test) => {
    const proof = "Proof. intros L P s t H k; symmetry; apply H. Qed.";
    const axiom = "Axiom trust_me : forall A : Prop, A.";
    const files = [
      await changed(test, proof, "Admitted."),
      await changed(test, proof, `Proof. ${axiom} apply trust_me. Qed.`),
    ];
    for (const file of files) {
      const { state, words } = await checkMeta(signal, file);
      assert.equal(state, "refused");
      assert.match(
        words,
        /^not checked: Coq refuses it: it rests on assumptions: .*(same_symmetric|trust_me)/,
      );
    }
  });

  it("says how to get Coq where there is none", async (test) => {
    await commandsOnPath(test, {}, "hidden");
    const { state, words } = await checkMeta(signal);
    assert.equal(state, "missing");
    assert.match(words, /^not checked: coqc is not on PATH; apt-get install .*coq$/);
  });
});
