/**
 * Templates without a build step: htm on Preact, and the hooks that pages use.
 * @module
 */

import htm from "./vendor/htm-3.1.1.js";
import { Fragment, h, render } from "./vendor/preact-11.2.0.js";

export { useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./vendor/preact-hooks-11.2.0.js";
export { Fragment, render };
export const html = htm.bind(h);
