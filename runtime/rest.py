"""The REST server: one FastAPI application, run inside the process's own event loop.

Signatures (being written), for routers in */http_api.py and */admin_api.py:

@dataclass(frozen=True, slots=True)
class Principal:                        # who the bearer token stands for
    account: str                        # the account's id
    login: str                          # its address
    admin: bool

Verify = Callable[[str], Awaitable[Principal | None]]      # token -> who, or None when it is not good

class Guard:
    def __init__(self, verify: Verify, *, allow_plain: bool)
    async def user(self, request: Request) -> Principal     # FastAPI dependency: 401, 403 over plain HTTP from afar
    async def admin(self, request: Request) -> Principal    # also 403 when not an administrator
    async def private(self, request: Request) -> None       # for /token: only the plain-HTTP rule

In a router:   def router(identity: Identity, guard: Guard) -> APIRouter:
                   @routes.get("/api/users")
                   async def users(caller: Principal = Depends(guard.admin)) -> ...

class RequestCounters: total, successful, failed, last_request_time (Unix s)
def make_app(*, title: str, version: str, counters: RequestCounters) -> FastAPI
class RestServer(app, *, host: str, port: int, tls: Tls | None): start(), drain(), stop(), port
"""
