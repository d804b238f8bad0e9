import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { wantsColours } from "../colours.ts";

describe("colours", () => {
  it("are for a terminal", () => {
    assert.equal(wantsColours({ isTTY: true }, {}), true);
    assert.equal(wantsColours({ isTTY: false }, {}), false);
    assert.equal(wantsColours({}, {}), false);
  });

  it("are not for who set NO_COLOR", () => {
    assert.equal(wantsColours({ isTTY: true }, { NO_COLOR: "1" }), false);
    assert.equal(wantsColours({ isTTY: true }, { NO_COLOR: "" }), true, "no-color.org: not an empty string");
  });

  it("do not come with a build server", () => {
    assert.equal(wantsColours({ isTTY: false }, { CI: "true", FORCE_COLOR: "1", TERM: "xterm" }), false);
  });
});
