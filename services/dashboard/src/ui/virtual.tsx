// Long lists of lines of one height: only what can be seen is in the document.
import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useState } from "preact/hooks";

/** Lines above and below the visible ones. */
const BEYOND = 12;

export interface Window {
  from: number;
  to: number;
  /** Scrolls as little as needed to show a line. */
  show: (index: number) => void;
}

/** Which of `count` lines of `height` pixels to draw. `head` is what stays above them within the scrolled element. */
export function useWindow(scroller: RefObject<HTMLElement>, count: number, height: number, head = 0): Window {
  const [range, setRange] = useState({ top: 0, view: 900 });
  const measure = useCallback(() => {
    const element = scroller.current;
    if (!element) return;
    const [top, view] = [element.scrollTop, element.clientHeight];
    setRange((old) => (old.top === top && old.view === view ? old : { top, view }));
  }, [scroller]);
  useLayoutEffect(measure);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, [scroller, measure]);
  const show = useCallback(
    (index: number) => {
      const element = scroller.current;
      if (!element || index < 0) return;
      const top = index * height;
      const view = element.clientHeight - head;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + height > element.scrollTop + view) element.scrollTop = top + height - view;
      measure();
    },
    [scroller, height, head, measure],
  );
  const from = Math.max(0, Math.floor(range.top / height) - BEYOND);
  const to = Math.min(count, Math.ceil((range.top + range.view) / height) + BEYOND);
  return { from: Math.min(from, to), to, show };
}
