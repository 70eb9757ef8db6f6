// Preact and htm under one name, so that one line changes when they are replaced.
export {
  h, html, render, createContext, useState, useReducer, useEffect, useLayoutEffect, useRef, useMemo, useCallback,
  useContext, useErrorBoundary,
} from "../vendor/htm/standalone.module.js";
