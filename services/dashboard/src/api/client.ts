// The one way to the server: gRPC-web for our own contract, JSON for Kubeflow's, with the token where one is needed.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ArtifactService, RunService } from "../gen/flumina/pipelines/v1/pipelines_pb.js";
import { ProgramService } from "../gen/flumina/pipelines/v1/programs_pb.js";
import { RunListService } from "../gen/flumina/pipelines/v1/run_lists_pb.js";

const TOKEN = "flumina.token";

/** Called when the server wants a token that it was not given. */
let onUnauthenticated = () => {};

export function whenUnauthenticated(action: () => void): void {
  onUnauthenticated = action;
}

/** The token lives as long as the browser's tab and never in a URL. */
export function token(): string {
  return sessionStorage.getItem(TOKEN) ?? "";
}

export function setToken(value: string): void {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

const authorize: Interceptor = (next) => async (request) => {
  const bearer = token();
  if (bearer) request.header.set("authorization", `Bearer ${bearer}`);
  try {
    return await next(request);
  } catch (error) {
    if (isUnauthenticated(error)) onUnauthenticated();
    throw error;
  }
};

const transport = createGrpcWebTransport({
  baseUrl: location.origin,
  interceptors: [authorize],
  useBinaryFormat: true,
});

export const runs = createClient(RunService, transport);
export const artifacts = createClient(ArtifactService, transport);
export const lists = createClient(RunListService, transport);
export const programs = createClient(ProgramService, transport);

/** Whether asking again can help: the server was away, or the connection broke. */
export function isTemporary(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return [Code.Unavailable, Code.Unknown, Code.Aborted, Code.DeadlineExceeded, Code.Internal].includes(code);
}

export function isNotFound(error: unknown): boolean {
  return ConnectError.from(error).code === Code.NotFound;
}

export function isUnauthenticated(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Unauthenticated;
}

/** What went wrong, for people. */
export function explain(error: unknown): string {
  const { code, rawMessage } = ConnectError.from(error);
  if (code === Code.Unknown && error instanceof TypeError) return "The server cannot be reached.";
  return rawMessage || Code[code] || "The call failed.";
}

/** A call of Kubeflow's API, whose JSON this page only passes on or reads a little of. */
export async function rest(method: string, path: string, signal?: AbortSignal): Promise<unknown> {
  const headers: Record<string, string> = {};
  if (token()) headers["authorization"] = `Bearer ${token()}`;
  const answer = await fetch(path, { method, headers, ...(signal ? { signal } : {}) });
  const text = await answer.text();
  if (answer.status === 401) {
    onUnauthenticated();
    throw new ConnectError("a token is needed", Code.Unauthenticated);
  }
  const body: unknown = text ? JSON.parse(text) : {};
  if (!answer.ok) {
    const message = (body as { message?: string }).message ?? `the server answered ${answer.status}`;
    throw new ConnectError(message, answer.status === 404 ? Code.NotFound : Code.FailedPrecondition);
  }
  return body;
}
