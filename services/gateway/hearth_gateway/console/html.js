/** The one place that knows which libraries draw the pages: Preact, its hooks, and htm in place of JSX. */
import htm from "./vendor/htm.mjs";
import { h } from "./vendor/preact.mjs";

export { render } from "./vendor/preact.mjs";
export { useCallback, useEffect, useErrorBoundary, useId, useMemo, useRef, useState } from "./vendor/hooks.mjs";
export const html = htm.bind(h);
