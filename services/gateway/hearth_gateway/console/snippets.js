/** A request as code to take along; the key stays out of it. */
import { CHAT } from "./chat.js";

const here = (path) => new URL(path, document.baseURI).href;

export const asCurl = (body) => `curl ${here(CHAT)} \\
  -H "Authorization: Bearer $HEARTH_API_KEY" -H 'Content-Type: application/json' \\
  -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`;

export const asPython = (body) => `import os
from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(here("v1"))}, api_key=os.environ.get("HEARTH_API_KEY", "unused"))
stream = client.chat.completions.create(
    stream=True,
${Object.entries(body)
  .map(([name, value]) => `    ${name}=${JSON.stringify(value)},`)
  .join("\n")}
)
for event in stream:
    print(event.choices[0].delta.content or "", end="", flush=True)`;
