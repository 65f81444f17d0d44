"""Adding methods to PEFT's list.

`PeftType` is a closed enum and PEFT offers no public way to add a member, while `register_peft_method` insists on one.
"""

from typing import cast

from peft import PeftType


def add_peft_type(name: str) -> PeftType:
    """Return the member `name` of `PeftType`, adding it when PEFT does not have it.

    Args:
        name: member name and value, upper case. Saved as `peft_type` in `adapter_config.json`.
    """
    if name in PeftType._member_map_:
        return cast(PeftType, PeftType._member_map_[name])
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    # EnumType's own __setattr__ refuses to touch members, and from Python 3.12 on attribute look-up needs this.
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    return member
