// Looks at the panels that were drawn, and leaves what is wrong with each, as JSON, in the page.

export function examine(width) {
  const panels = [...document.querySelectorAll('.panel')];
  const found = panels.map((panel) => ({ title: panel.dataset.title, type: panel.dataset.type, faults: [...emptiness(panel), ...cuts(panel)] }));
  const result = document.createElement('script');
  result.type = 'application/json';
  result.id = 'examined';
  result.textContent = JSON.stringify({ panels: found, faults: halfEmptyRows(panels, width) });
  document.body.append(result);
}

function emptiness(panel) {
  const isEmpty = {
    timeseries: () => !hasColor(panel.querySelector('canvas')),
    // The first row is the heading.
    table: () => panel.querySelectorAll('[role=row]').length < 2,
    stat: () => texts(panel).length === 0,
    bargauge: () => texts(panel).length === 0,
  }[panel.dataset.type];
  if (panel.querySelector('.no-data')) {
    return ['no data'];
  }
  return isEmpty() ? ['nothing is drawn'] : [];
}

// Axes and grids are grey. Of pixels that are nearly transparent, the color is not exact.
function hasColor(canvas) {
  if (!canvas) {
    return false;
  }
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const color = data.subarray(at, at + 3);
    if (data[at + 3] > 100 && Math.max(...color) - Math.min(...color) > 50) {
      return true;
    }
  }
  return false;
}

// Texts in the body of a panel.
function texts(panel) {
  return [...panel.querySelectorAll('[data-testid="data-testid panel content"] *')].filter((element) => element.children.length === 0 && element.textContent.trim());
}

// Texts that do not fit, also because their column does not, and those that Grafana made too small to read.
function cuts(panel) {
  const isTiny = (element) => parseFloat(getComputedStyle(element).fontSize) < 6;
  return texts(panel).filter((element) => isTiny(element) || isCut(element, panel)).map((element) => `cut or too small: ${element.textContent}`);
}

// Whether a text is wider than what shows it.
function isCut(element, panel) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const { right } = range.getBoundingClientRect();
  for (let around = element; around !== panel; around = around.parentElement) {
    if (getComputedStyle(around).overflowX !== 'visible' && right > around.getBoundingClientRect().right + 1) {
      return true;
    }
  }
  return false;
}

// A line through the panels of a row has panels on all of its length.
function halfEmptyRows(panels, width) {
  const boxes = panels.map((panel) => [panel, panel.firstElementChild.getBoundingClientRect()]);
  return boxes.flatMap(([panel, { top }]) => {
    const beside = boxes.filter(([, box]) => box.top <= top + 1 && top + 1 < box.bottom);
    const covered = beside.reduce((sum, [, box]) => sum + box.width, 0);
    // There are gaps between panels.
    return covered < 0.97 * width ? [`the row of ${panel.dataset.title} is filled for ${covered} of ${width} px`] : [];
  });
}
