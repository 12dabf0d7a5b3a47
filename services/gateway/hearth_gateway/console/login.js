/** Asks for an API key, and tries it before it is kept. */
import { get, key } from "./api.js";
import { submits, useAction } from "./hooks.js";
import { html, useState } from "./html.js";
import { Button, Card, Input, Problem } from "./ui.js";

export function Login({ onDone }) {
  const [secret, setSecret] = useState("");
  const enter = useAction(async () => {
    const before = key.get();
    key.set(secret.trim());
    try {
      await get("models/");
    } catch (error) {
      if (before) key.set(before);
      else key.forget();
      throw error;
    }
    onDone();
  });
  return html`<${Card} title="Your API key" kind="narrow">
    <p>This Hearth asks for a key. It stays in this browser tab and is forgotten when the tab is closed.</p>
    <form onSubmit=${submits(enter.run)}>
      <${Input}
        label="API key"
        type="password"
        autocomplete="off"
        required
        value=${secret}
        onValue=${setSecret}
        hint="It begins with hearth_. Administrators make keys under “Keys & usage”, or on the machine with: python -m hearth_local keys create"
      />
      <${Problem} error=${enter.error} />
      <${Button} kind="main" type="submit" busy=${enter.busy}>Log in<//>
    </form>
  <//>`;
}
