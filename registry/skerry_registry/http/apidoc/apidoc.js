// Shows /openapi.json as a page.

const document_ = await (await fetch("/openapi.json")).json();

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(value) {
  if (!value?.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((inner, key) => inner[key], document_);
}

function table(heads, rows) {
  const head = element("tr", "", ...heads.map((text) => element("th", text)));
  const body = rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", "", cell))));
  return element("table", "", element("thead", "", head), element("tbody", "", ...body));
}

function schemaName(content) {
  const [[media, { schema }]] = Object.entries(content);
  return `${schema.$ref?.split("/").pop() ?? "JSON"} as ${media}`;
}

function operation(path, method, facts) {
  const verb = element("span", method.toUpperCase());
  verb.className = "method";
  const made = element("details", "", element("summary", "", verb, element("code", path), element("span", facts.summary)));
  if (facts.description) made.append(element("p", facts.description));
  if (facts.parameters) {
    const rows = facts.parameters.map(resolve).map((one) => {
      const example = one.example === undefined ? "" : ` For example ${one.example}`;
      return [element("code", one.name), one.in, one.description + example];
    });
    made.append(table(["Parameter", "In", "Meaning"], rows));
  }
  if (facts.requestBody) made.append(element("p", `Body: ${schemaName(facts.requestBody.content)}`));
  const answers = Object.entries(facts.responses).map(([status, one]) => [
    element("code", status),
    one.description,
    one.content ? schemaName(one.content) : "",
  ]);
  made.append(table(["Status", "Meaning", "Body"], answers));
  made.dataset.words = `${path} ${method} ${facts.summary}`.toLowerCase();
  return made;
}

const routes = document.getElementById("routes");
routes.replaceChildren();
for (const tag of document_.tags) {
  const section = element("section", "", element("h2", tag.name), element("p", tag.description));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, facts] of Object.entries(methods)) {
      if (facts.tags.includes(tag.name)) section.append(operation(path, method, facts));
    }
  }
  routes.append(section);
}
const schemas = element("section", "", element("h2", "Schemas"));
for (const [name, schema] of Object.entries(document_.components.schemas)) {
  schemas.append(element("details", "", element("summary", name), element("pre", JSON.stringify(schema, null, 2))));
}
routes.append(schemas);

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const one of routes.querySelectorAll("details[data-words]")) one.hidden = !one.dataset.words.includes(wanted);
  for (const section of routes.children) section.hidden = wanted !== "" && !section.querySelector("details[data-words]:not([hidden])");
});
